"""What cannot work is refused when it is rendered, in words that say what to do."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.settings import LOOPBACK
from supervisor.settings.kinds import BUNDLED_HANDLERS
from tests.support.helm_chart import agent, refusal, render

SECRET = "s3cr3t-in-the-clear"
A1 = f"{1:024x}"
BUNDLED = ",".join(BUNDLED_HANDLERS)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"replicas": 2}, ["replicas is 2 and the registry is SQLite", "Set replicas to 1", "(registryUrl)"]),
        ({"autoscaling": {"enabled": True}}, ["autoscaling.enabled is true and the registry is SQLite"]),
        (
            {"autoscaling": {"enabled": True, "minReplicas": 6}, "registryUrl": {"existingSecret": "database"}},
            ["autoscaling.minReplicas is 6, above maxReplicas, 5"],
        ),
        (
            {"registryUrl": {"url": f"postgresql://me:{SECRET}@db/chat"}},
            ["registryUrl.url holds a password", "registryUrl.existingSecret"],
        ),
        ({"registryUrl": {"url": f"postgresql://db/chat?password={SECRET}"}}, ["registryUrl.url holds a password"]),
        ({"registryUrl": {"url": "mysql://db/chat"}}, ["/registryUrl/url", "does not match"]),
        ({"registryUrl": {"url": "postgresql://db/chat", "existingSecret": "database"}}, ["give one of them"]),
        (
            {"registryUrl": {"existingSecret": "database"}, "backup": {"enabled": True}},
            ["the registry is in PostgreSQL, whose own tools copy it"],
        ),
        (
            {"registryUrl": {"existingSecret": "database"}, "config": {"ADVERTISE_URL": "http://one:8640"}},
            ["config.ADVERTISE_URL: the chart sets it, for each pod its own"],
        ),
        ({"replicas": -1}, ["/replicas"]),
        (
            {"terminationGracePeriodSeconds": 60},
            ["terminationGracePeriodSeconds is 60, and a stop may take 70: DRAIN_SECONDS (60) and 10 more"],
        ),
        (
            {"terminationGracePeriodSeconds": 69, "config": {"DRAIN_SECONDS": "1m"}},
            ["terminationGracePeriodSeconds is 69, and a stop may take 70"],
        ),
        (
            {"agents": [{"id": A1, "handler": "echo"}]},
            [f"agents[0] ({A1}): secretRef is missing", f"secretRef: {{name: agents, key: {A1}}}"],
        ),
        ({"agents": [agent(secretRef={"key": "x"})]}, [f"agents[0] ({A1}): secretRef is missing"]),
        ({"agents": [agent(), agent(2), agent()]}, [f"agents[2] ({A1}): the id is there twice, first in agents[0]"]),
        ({"agents": [agent(secret=SECRET)]}, ["secret would stand in a ConfigMap", "secretRef"]),
        ({"agents": [agent(secret="env:AGENT_X")]}, ["secret and secretRef both say where its secret is"]),
        ({"agents": {A1: {"handler": "echo"}}}, [f"agents.{A1}: secretRef is missing"]),
        ({"agents": {A1: agent(2)}}, [f"agents.{A1}: its id is {2:024x}: leave it out"]),
        ({"agents": {A1: {"handler": "echo", "secret": SECRET}}}, [f"agents.{A1}: secret would stand in a ConfigMap"]),
        ({"agents": {"Ann": {"handler": "echo"}}}, ["invalid propertyName 'Ann'"]),
        ({"agents": {A1: {"handler": "echo", "secert": "env:X"}}}, [f"/agents/{A1}", "secert"]),
        ({"agents": [agent()], "config": {"AGENTS_FILE": "/x"}}, ["config.AGENTS_FILE and agents both declare"]),
        ({"config": {"AGENTS_PRUNE": True}}, ["config.AGENTS_PRUNE: set agentsPrune"]),
        (
            {"backup": {"enabled": True}, "persistence": {"enabled": False, "ephemeral": True}},
            ["backup.enabled is true and the registry is in an emptyDir"],
        ),
        (
            {"backup": {"enabled": True}, "persistence": {"accessModes": ["ReadWriteOncePod"]}},
            ["persistence.accessModes is ReadWriteOncePod"],
        ),
        ({"backup": {"keep": 0}}, ["/backup/keep"]),
        (
            {"prometheusRule": {"alerts": {"SupervisorLate": {"enabled": False}}}},
            ["prometheusRule.alerts.SupervisorLate: there is no such alert"],
        ),
        (
            {"prometheusRule": {"alerts": {"SupervisorDown": {"threshold": 3}}}},
            ["prometheusRule.alerts.SupervisorDown: it has no threshold; there are those of SupervisorAgentsOffline"],
        ),
        ({"prometheusRule": {"alerts": {"SupervisorDown": {"for": "soon"}}}}, ["/SupervisorDown/for"]),
        ({"httpRoute": {"enabled": True}}, ["httpRoute.parentRefs is empty"]),
        ({"livenessProbe": {"terminationGracePeriodSeconds": 0}}, ["/livenessProbe/terminationGracePeriodSeconds"]),
        ({"agents": [agent(settings={"api_key": SECRET})]}, ["settings.api_key would stand in a ConfigMap", "env:"]),
        ({"agents": [agent(settings={"signing_secret": SECRET})]}, ["settings.signing_secret"]),
        ({"agents": [agent(settings={"headers": {"X-Api-Key": SECRET}})]}, ["settings.headers.X-Api-Key would stand"]),
        (
            {"agents": [agent(settings={"headers": {"Authorization": f"Bearer {SECRET}"}})]},
            ["settings.headers.Authorization would stand in a ConfigMap"],
        ),
        (
            {"agents": [agent(settings={"fallback": [{"api_key": "env:AGENT_KEY"}, {"api_key": SECRET}]})]},
            [f"agents[0] ({A1}): settings.fallback[1].api_key would stand in a ConfigMap"],
        ),
        (
            {"agents": [agent(settings={"store": {"credentials": {"kind": "x", "private_key": SECRET}}})]},
            ["settings.store.credentials.private_key"],
        ),
        ({"agents": [agent(settings={"credentials": SECRET})]}, ["settings.credentials"]),
        ({"agents": [agent(settings={"apiKeys": [[SECRET]]})]}, ["settings.apiKeys[0][0]"]),
        ({"agents": [agent(settings={"a": [{"authToken": SECRET}]})]}, ["settings.a[0].authToken"]),
        ({"agents": [agent(id=650000000000000000000001)]}, ["/agents/0/id", "got number, want string"]),
        ({"agents": [agent(id="A" * 24)]}, ["/agents/0/id", "does not match"]),
        ({"agents": [{"id": A1}]}, ["/agents/0", "handler"]),
        ({"agents": [agent(handlr="echo")]}, ["/agents/0", "handlr"]),
        ({"agents": [agent(handler="no handler")]}, ["/agents/0/handler"]),
        ({"agents": [agent(labels={"tier": 1})]}, ["/agents/0/labels/tier", "want string"]),
        ({"agentsPrune": True}, ["agentsPrune without agents would remove every agent"]),
        ({"config": {"ADMIN_TOKEN": SECRET}}, ["config.ADMIN_TOKEN is a secret", "adminToken.existingSecret"]),
        (
            {"config": {"ADMIN_READ_TOKEN": SECRET}},
            ["config.ADMIN_READ_TOKEN is a secret", "adminReadToken.existingSecret"],
        ),
        ({"config": {"METRICS_TOKEN": SECRET}}, ["config.METRICS_TOKEN is a secret", "metricsToken.existingSecret"]),
        ({"config": {"SECRET_KEYS": [SECRET]}}, ["config.SECRET_KEYS is a secret", "secretKeys.existingSecret"]),
        (
            {"config": {"PROXY": f"http://user:{SECRET}@proxy"}},
            ["config.PROXY holds a password", "proxy.existingSecret"],
        ),
        ({"config": {"PROXY": "http://p"}, "proxy": {"existingSecret": "p"}}, ["give one of them"]),
        ({"config": {"REGISTRY_URL": f"postgresql://u:{SECRET}@h/d"}}, ["config.REGISTRY_URL: set registryUrl"]),
        ({"config": {"ADMIN_HOST": "127.0.0.1"}}, ["config.ADMIN_HOST: set admin.host"]),
        ({"config": {"ADMIN_PORT": 80}}, ["config.ADMIN_PORT", "service.port"]),
        ({"config": {"CONCURENCY": 3}}, ["invalid propertyName 'CONCURENCY'", "'CONCURRENCY'"]),
        ({"config": {"SUPERVISOR_CONCURRENCY": 3}}, ["invalid propertyName 'SUPERVISOR_CONCURRENCY'"]),
        ({"config": {"LOG_FORMAT": "xml"}}, ["/config/LOG_FORMAT", "console"]),
        ({"config": {"CONCURRENCY": 0}}, ["/config/CONCURRENCY", "minimum"]),
        ({"config": {"DRAIN_SECONDS": "soon"}}, ["/config/DRAIN_SECONDS", "does not match"]),
        (
            {"config": {"JOURNAL_ENCRYPTION": True}},
            ["config.JOURNAL_ENCRYPTION needs keys", "secretKeys.existingSecret"],
        ),
        ({"adminToken": {"generate": False}}, ["without a token", "adminToken.existingSecret"]),
        ({"image": {"tag": "1.0:2"}}, ["/image/tag", "does not match"]),
        ({"image": {"tag": 1.0}}, ["/image/tag", "want string"]),
        ({"image": {"digest": "sha256:abc"}}, ["/image/digest", "does not match"]),
        ({"image": {"repository": "Not Lower"}}, ["/image/repository"]),
        ({"persistence": {"enabled": False}}, ["persistence.enabled is false", "Set persistence.ephemeral to true"]),
        ({"persistence": {"ephemeral": True}}, ["persistence.ephemeral is true and persistence.enabled too"]),
        ({"persistence": {"enabled": False, "ephemeral": True, "existingClaim": "x"}}, ["persistence.existingClaim"]),
        ({"persistence": {"accessModes": ["ReadWriteMany"]}}, ["/persistence/accessModes/0", "ReadWriteOncePod"]),
        ({"persistence": {"size": "big"}}, ["/persistence/size"]),
        ({"handlers": {"files": {"shout": "x"}}}, ["'shout' does not match", ".py"]),
        (
            {"handlers": {"files": {"shout.py": ""}}, "agents": [agent(handler="assistent")]},
            [f"handler assistent is neither among handlers.files (shout.py) nor among the bundled ones ({BUNDLED})"],
        ),
        (
            {
                "handlers": {"files": {"shout.py": ""}},
                "agents": [agent(handler="assistant")],
                "config": {"BUNDLED_HANDLERS": "none"},
            },
            ["handler assistant is neither among handlers.files (shout.py) nor among the bundled ones (none)"],
        ),
        (
            {
                "handlers": {"files": {"shout.py": ""}},
                "agents": [agent(handler="assistant")],
                "config": {"BUNDLED_HANDLERS": "echo, tour"},
            },
            ["nor among the bundled ones (echo,tour)"],
        ),
        (
            {"handlers": {"files": {"shout.py": ""}, "existingConfigMap": "x"}},
            ["handlers: give one of files, existingConfigMap and volume"],
        ),
        (
            {"handlers": {"existingConfigMap": "x"}, "config": {"AGENTS_DIR": "/x"}},
            ["config.AGENTS_DIR and handlers both say where handlers are"],
        ),
        (
            {"extraEnv": [{"name": "SUPERVISOR_ADMIN_TOKEN", "value": SECRET}]},
            ["extraEnv: SUPERVISOR_ADMIN_TOKEN with a plain value", "config.ADMIN_TOKEN"],
        ),
        ({"ingress": {"enabled": True}}, ["ingress.hosts is empty"]),
        ({"ingres": {"enabled": True}}, ["ingres"]),
        ({"service": {"port": 70000}}, ["/service/port"]),
        ({"livenessProbe": {"exec": {"command": ["true"]}}}, ["/livenessProbe", "exec"]),
    ],
    ids=lambda given: None if isinstance(given, list) else str(given)[:60],
)
def test_it_is_refused_in_words(values: dict[str, Any], expected: list[str]) -> None:
    said = refusal(values)
    for words in expected:
        assert words in said
    if "these values cannot work" in said:
        # The schema's messages quote what does not fit a pattern; ours repeat no value.
        assert SECRET not in said


@pytest.mark.parametrize("host", sorted(LOOPBACK))
def test_loopback_is_refused_because_nothing_could_reach_it(host: str) -> None:
    assert f"admin.host {host} is the pod's own loopback" in refusal({"admin": {"host": host}})


def test_everything_wrong_is_said_at_once() -> None:
    said = refusal({"replicas": 3, "adminToken": {"generate": False}, "agents": [{"id": A1, "handler": "echo"}]})
    assert said.count("\n  - ") == 3


def test_a_fleet_that_no_config_map_can_hold_is_refused() -> None:
    agents = [agent(number, settings={"instruction": "x" * 10_000}) for number in range(1, 101)]
    assert "agents do not fit into a ConfigMap" in refusal({"agents": agents})
    assert render({"agents": agents[:90]}).fleet


@pytest.mark.parametrize(
    "values",
    [
        {"terminationGracePeriodSeconds": 70},
        {"replicas": 0},
        {
            "agents": [
                agent(settings={"api_key": "env:AGENT_KEY", "max_tokens": 5, "token": "file:/run/secrets/agents/x"})
            ]
        },
        {
            "agents": [
                agent(
                    settings={
                        "headers": {"X-Api-Key": "env:AGENT_KEY", "Accept": "text/plain", "Authorization": ""},
                        "fallback": [{"model": "openai:m", "api_key": "env:AGENT_KEY"}, "openai:m", None],
                        "limits": {"budget_tokens": "1000", "keys": ["a"], "monkey": "yes", "secretary": "Ada"},
                    }
                )
            ]
        },
        {
            "handlers": {"files": {"shout.py": ""}},
            "agents": [agent(handler="shout:Shout"), agent(2, handler="pkg.m:H")],
        },
        {"extraEnv": [{"name": "SUPERVISOR_PRICES", "valueFrom": {"configMapKeyRef": {"name": "p", "key": "p"}}}]},
        {"global": {"anything": True}},
    ],
    ids=str,
)
def test_what_is_near_a_refusal_and_well_is_rendered(values: dict[str, Any]) -> None:
    assert render(values).stateful_set
