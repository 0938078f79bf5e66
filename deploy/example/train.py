"""An ordinary training script: it knows nothing of loghaul.

Ridge regression over a list of alphas on the diabetes data of scikit-learn. Prints, warns, logs
through the standard library and through structlog, talks to a service with an SDK that logs at
DEBUG, shows a progress bar, and has a child process that prints.

    python train.py --service http://127.0.0.1:8000 [--diverge]
"""

import argparse
import logging
import subprocess
import sys
import time
import warnings

import structlog
from azure.core import PipelineClient
from azure.core.pipeline.policies import NetworkTraceLoggingPolicy, RetryPolicy
from azure.core.rest import HttpRequest
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_squared_error
from sklearn.model_selection import train_test_split
from tqdm import tqdm

logging.basicConfig(level=logging.DEBUG)
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.render_to_log_kwargs,
    ],
    logger_factory=structlog.stdlib.LoggerFactory(),
    wrapper_class=structlog.stdlib.BoundLogger,
)
log = structlog.get_logger("train")


def main():
    options = arguments()
    client = PipelineClient(
        options.service,
        policies=[RetryPolicy(retry_total=1), NetworkTraceLoggingPolicy(logging_enable=True)],
    )
    names = send(client, "GET", "/features").json()
    x, y = load_diabetes(return_X_y=True)
    print(f"{len(x)} patients, features: {', '.join(names)}")

    train_x, test_x, train_y, test_y = train_test_split(x, y, test_size=0.2, random_state=0)
    data = {"train": (train_x, train_y), "test": (test_x, test_y)}

    best = (float("inf"), None)
    for alpha in tqdm([step / 20 for step in range(21)], desc="alphas"):
        mse = evaluate(data, alpha)
        print(f"alpha={alpha:.2f} mse={mse:.2f}")
        log.info("trained", alpha=alpha, mse=round(mse, 2))
        best = min(best, (mse, alpha))
        time.sleep(options.pause)
        if options.diverge and alpha >= 0.5:
            fail(mse)

    if best[1] < 0.1:
        warnings.warn(f"best alpha {best[1]} is at the edge of the list", stacklevel=1)
    subprocess.run([sys.executable, "-c", "print('child: model checked')"], check=True)
    send(client, "PUT", "/model", json={"alpha": best[1], "mse": best[0]})
    print(f"best: alpha={best[1]:.2f} mse={best[0]:.2f}", file=sys.stderr)


def send(client, method, path, **content):
    return client.send_request(HttpRequest(method, client.format_url(path), **content))


def evaluate(data, alpha):
    model = Ridge(alpha=alpha).fit(*data["train"])
    inputs, truth = data["test"]
    return mean_squared_error(truth, model.predict(inputs))


def fail(mse):
    try:
        raise FloatingPointError(f"loss is not finite after {mse:.2f}")
    except FloatingPointError as error:
        raise RuntimeError("training diverged") from error


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--service", required=True)
    parser.add_argument("--diverge", action="store_true", help="end with an exception")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds after each alpha")
    return parser.parse_args()


if __name__ == "__main__":
    main()
