"""Optuna's client of its gRPC proxy, whose calls end when the proxy does not answer."""

from __future__ import annotations

import warnings
from typing import Any

import grpc
from optuna.exceptions import ExperimentalWarning
from optuna.storages import GrpcStorageProxy
from optuna.storages._grpc.auto_generated import api_pb2_grpc
from optuna.storages._grpc.client import GrpcClientCache

DEADLINE = 60.0
"""Seconds a call may take: a proxy whose host vanished never says that it did"""


class _Deadline(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    def intercept_unary_unary(self, call: Any, details: Any, request: Any) -> Any:
        return call(details._replace(timeout=details.timeout or DEADLINE), request)


class Proxy(GrpcStorageProxy):
    """Optuna's, with a deadline for each call and a channel that notices a dead connection."""

    def __init__(self, host: str, port: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            super().__init__(host=host, port=port)
        self.get_all_studies()  # whether it is there

    def _setup(self) -> None:
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 2000),
            ("grpc.keepalive_time_ms", 300_000),  # more often than this a server takes for an attack
        ]
        self._channel = grpc.insecure_channel(f"{self._host}:{self._port}", options=options)
        channel = grpc.intercept_channel(self._channel, _Deadline())
        self._stub = api_pb2_grpc.StorageServiceStub(channel)  # type: ignore[no-untyped-call]
        self._cache = GrpcClientCache(self._stub)
