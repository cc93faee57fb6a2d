"""Loaded by Python before a Dynamo worker starts, so that it ends when it is asked to.

Up to ai-dynamo 1.3.1 a worker leaves it to vLLM's finalizers to end its engine (dynamo/vllm/main.py
calls no shutdown), and Python runs those after multiprocessing's own, which waits for the engine
for ever, where anything made a finalizer before multiprocessing was imported, as filelock does.
What is registered first runs last, so it is imported first.
"""

import multiprocessing.util  # noqa: F401
