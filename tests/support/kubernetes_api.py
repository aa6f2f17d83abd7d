"""As much of a Kubernetes API server as Helm needs to install and upgrade a release: it keeps objects, no pods run.

Like the real one it refuses an update that changes what is immutable in a StatefulSet.
"""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import yaml

#: What it knows, by the path of the group: plural names of kinds.
GROUPS = {
    "api/v1": {
        "secrets": "Secret",
        "services": "Service",
        "configmaps": "ConfigMap",
        "persistentvolumeclaims": "PersistentVolumeClaim",
        "pods": "Pod",
        "serviceaccounts": "ServiceAccount",
    },
    "apis/apps/v1": {"statefulsets": "StatefulSet"},
}
#: All else of a StatefulSet's spec stays as it was made.
MUTABLE = {
    *("replicas", "ordinals", "template", "updateStrategy", "minReadySeconds", "revisionHistoryLimit"),
    "persistentVolumeClaimRetentionPolicy",
}


@dataclass
class KubernetesApi:
    """The server's store, by the objects' paths, and where it listens."""

    namespace: str
    port: int = 0
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def kubeconfig(self) -> str:
        """How a client gets here."""
        cluster = {"name": "test", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}
        context = {"name": "test", "context": {"cluster": "test", "user": "test", "namespace": self.namespace}}
        users = [{"name": "test", "user": {}}]
        made = {"apiVersion": "v1", "kind": "Config", "current-context": "test"}
        return json.dumps(made | {"clusters": [cluster], "contexts": [context], "users": users})

    def path(self, kind: str, name: str) -> str:
        """Where an object is."""
        (found,) = (
            f"{g}/namespaces/{self.namespace}/{p}" for g, ks in GROUPS.items() for p, k in ks.items() if k == kind
        )
        return f"/{found}/{name}"

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """An object that is there."""
        return self.objects[self.path(kind, name)]

    def put(self, made: dict[str, Any]) -> None:
        """Put an object there, as somebody beside Helm would."""
        self.objects[self.path(made["kind"], made["metadata"]["name"])] = made

    def answer(self, method: str, path: str, body: bytes) -> tuple[HTTPStatus, Any]:
        """Status and JSON for a request."""
        if method == "GET":
            found = self._discovery(path) or self.objects.get(path)
            return (HTTPStatus.OK, found) if found else (HTTPStatus.NOT_FOUND, _failure(404, "NotFound", path))
        if method == "DELETE":
            self.objects.pop(path, None)
            return HTTPStatus.OK, {"kind": "Status", "apiVersion": "v1", "status": "Success"}
        made = yaml.safe_load(body)
        target = f"{path}/{made['metadata']['name']}" if method == "POST" else path
        before = self.objects.get(target)
        if before is not None and made["kind"] == "StatefulSet":
            changed = {key for key in made["spec"] | before["spec"] if made["spec"].get(key) != before["spec"].get(key)}
            if forbidden := sorted(changed - MUTABLE):
                said = f"updates to statefulset spec for {', '.join(forbidden)} are forbidden"
                return HTTPStatus.UNPROCESSABLE_ENTITY, _failure(422, "Invalid", said)
        self.objects[target] = made
        return HTTPStatus.CREATED if before is None else HTTPStatus.OK, made

    def _discovery(self, path: str) -> dict[str, Any] | None:
        """What it says of itself."""
        if path == "/version":
            return {"major": "1", "minor": "34", "gitVersion": "v1.34.0"}
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            version = {"groupVersion": "apps/v1", "version": "v1"}
            group = {"name": "apps", "versions": [version], "preferredVersion": version}
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [group]}
        if path == "/openapi/v3":
            return {"paths": {group: {"serverRelativeURL": f"/openapi/v3/{group}"} for group in GROUPS}}
        if (group_path := path.removeprefix("/openapi/v3/")) in GROUPS:
            return _openapi(group_path)
        if (group_path := path.removeprefix("/")) in GROUPS:
            return _resources(group_path)
        return None


def _failure(code: int, reason: str, message: str) -> dict[str, Any]:
    said = {"status": "Failure", "reason": reason, "code": code, "message": message}
    return {"kind": "Status", "apiVersion": "v1", **said}


def _resources(group: str) -> dict[str, Any]:
    verbs = ["get", "list", "create", "patch", "update", "delete"]
    resources = [
        {"name": plural, "singularName": kind.lower(), "namespaced": True, "kind": kind, "verbs": verbs}
        for plural, kind in GROUPS[group].items()
    ]
    version = group.removeprefix("apis/").removeprefix("api/")
    return {"kind": "APIResourceList", "groupVersion": version, "resources": resources}


def _openapi(group: str) -> dict[str, Any]:
    """That it checks fields itself, so that clients need not."""
    parameter = {"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}
    name = "apps" if "apps" in group else ""
    paths = {
        f"/{group}/namespaces/{{namespace}}/{plural}/{{name}}": {
            "patch": {
                "parameters": [parameter],
                "responses": {},
                "x-kubernetes-action": "patch",
                "x-kubernetes-group-version-kind": {"group": name, "version": "v1", "kind": kind},
            }
        }
        for plural, kind in GROUPS[group].items()
    }
    return {"openapi": "3.0.0", "info": {"title": "test", "version": "1"}, "paths": paths}


@contextmanager
def kubernetes_api(namespace: str) -> Iterator[KubernetesApi]:
    """A server on loopback, gone afterwards."""
    api = KubernetesApi(namespace)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            length = int(self.headers.get("content-length", 0))
            status, said = api.answer(self.command, self.path.partition("?")[0], self.rfile.read(length))
            body = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _answer

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        api.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield api
        finally:
            server.shutdown()
            thread.join()
