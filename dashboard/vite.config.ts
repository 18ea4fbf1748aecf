import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// The build goes where the Python package serves it from; `npm run dev` asks a running API.
export default defineConfig({
  plugins: [react()],
  build: {
    outDir: "../src/candlecast/api/static",
    emptyOutDir: true,
    target: ["chrome125", "firefox128", "safari17.5"], // each knows light-dark() and toSorted()
    chunkSizeWarningLimit: 800,
    license: { fileName: "licenses.txt" }, // of all that is bundled; the footer links to it
  },
  server: {
    proxy: { "/api": process.env["CANDLECAST_API"] ?? "http://127.0.0.1:8000" },
  },
});
