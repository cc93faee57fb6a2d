"""Loaded by Python before Dynamo's frontend starts, so that it hands on what workers publish.

With DYN_ZMQ_BROKER_URL workers connect to a broker to publish, and the frontend to listen. The
broker is here, in the one process that listens: at two sockets in the deployment's folder, which
its account alone may reach. Workers connect again by themselves when the frontend is there again.
"""

import os
import sys
import threading


def hand_on(url: str) -> None:
    """Bind both ends, and hand on from one to the other for as long as the process lives."""
    import zmq  # noqa: PLC0415 the frontend's own Python has it, and no other needs it

    ends = dict(part.strip().split("=", 1) for part in url.split(","))
    context = zmq.Context()
    inner, outer = context.socket(zmq.XSUB), context.socket(zmq.XPUB)
    before = os.umask(0o177)
    try:
        inner.bind(ends["xsub"])
        outer.bind(ends["xpub"])
    finally:
        os.umask(before)
    threading.Thread(target=zmq.proxy, args=(inner, outer), daemon=True).start()


if "dynamo.frontend" in sys.orig_argv and "DYN_ZMQ_BROKER_URL" in os.environ:
    try:
        hand_on(os.environ["DYN_ZMQ_BROKER_URL"])
    except Exception as error:  # Python would say it and go on, and no event would come
        sys.exit(f"events of workers cannot be handed on: {error}")
