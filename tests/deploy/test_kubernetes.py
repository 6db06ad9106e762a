"""The manifests, judged offline: by the schemas of Kubernetes, by kustomize, and by what the program itself does."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from asgi_master.settings.model import Settings
from asgi_master.settings.resolve import resolve

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "deploy" / "kubernetes"
BASE, OVERLAY = MANIFESTS / "base", MANIFESTS / "overlays" / "production"
VERSIONS = ["1.29", kubernetes_validate.latest_version()]
LEAST_MARGIN = 2.0
"""Seconds between the last thing that asgi-master does itself and the SIGKILL of the kubelet."""


def load(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text())


def objects_of(kustomization: Path) -> list[dict[str, Any]]:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    command = ["kubectl", "kustomize", str(kustomization)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


FILES = [BASE / name for name in load(BASE / "kustomization.yaml")["resources"]]
OBJECTS = {manifest["kind"]: manifest for manifest in map(load, FILES)}
POD = OBJECTS["Deployment"]["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """What the program makes of the container's environment."""
    environ = {entry["name"]: entry["value"] for entry in CONTAINER["env"]}
    return resolve({}, environ, tmp_path, cpus=lambda: int(CONTAINER["resources"]["limits"]["cpu"])).settings


def port(name: str) -> int:
    (found,) = [port["containerPort"] for port in CONTAINER["ports"] if port["name"] == name]
    return found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_manifest_is_what_kubernetes_expects(file: Path, version: str) -> None:
    kubernetes_validate.validate(load(file), version, strict=True)


def test_every_manifest_is_in_the_kustomization() -> None:
    assert sorted(FILES) == sorted(file for file in BASE.glob("*.yaml") if file.name != "kustomization.yaml")


@pytest.mark.parametrize("kustomization", [BASE, OVERLAY], ids=lambda directory: directory.name)
def test_kustomize_builds_them(kustomization: Path) -> None:
    built = objects_of(kustomization)
    assert sorted(manifest["kind"] for manifest in built) == sorted(OBJECTS)
    for manifest in built:
        kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)


def test_the_overlay_changes_what_it_says() -> None:
    built = {manifest["kind"]: manifest for manifest in objects_of(OVERLAY)}
    (container,) = built["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert {manifest["metadata"]["namespace"] for manifest in built.values()} == {"production"}
    assert container["image"] == "registry.example/web:1.4.2"
    assert container["resources"]["limits"]["cpu"] == "4"
    names = [entry["name"] for entry in container["env"]]
    assert "ASGI_MASTER_READY_QUORUM" in names
    assert "ASGI_MASTER_APP" in names
    assert len(names) == len(set(names))


def test_there_is_time_for_everything_before_the_kill(settings: Settings) -> None:
    process = settings.process
    needed = process.shutdown_delay + process.drain_timeout + process.kill_grace
    assert needed + LEAST_MARGIN <= POD["terminationGracePeriodSeconds"] <= needed + 10


def test_the_probes_ask_where_the_master_answers(settings: Settings) -> None:
    assert settings.sockets.bind == (f"0.0.0.0:{port('http')}",)
    assert settings.observation.admin_bind == f"0.0.0.0:{port('admin')}"
    page = (ROOT / "docs/reference/metrics.md").read_text()
    paths = {"startupProbe": "/startupz", "readinessProbe": "/readyz", "livenessProbe": "/livez"}
    for probe, path in paths.items():
        assert CONTAINER[probe]["httpGet"] == {"path": path, "port": "admin"}
        assert f"| `{path}` |" in page


def test_the_startup_probe_waits_as_long_as_the_master(settings: Settings) -> None:
    probe = CONTAINER["startupProbe"]
    allowed = probe["periodSeconds"] * probe["failureThreshold"]
    assert allowed > settings.process.boot_timeout
    assert OBJECTS["Deployment"]["spec"]["progressDeadlineSeconds"] > allowed


def test_the_delay_is_longer_than_readiness_takes_to_be_noticed(settings: Settings) -> None:
    probe = CONTAINER["readinessProbe"]
    assert settings.process.shutdown_delay >= probe["periodSeconds"] * probe["failureThreshold"]


def test_the_pod_has_no_rights_it_does_not_need() -> None:
    own = CONTAINER["securityContext"]
    assert own["allowPrivilegeEscalation"] is False
    assert own["readOnlyRootFilesystem"] is True
    assert own["capabilities"] == {"drop": ["ALL"]}
    shared = POD["securityContext"]
    assert shared["runAsNonRoot"] is True
    assert shared["runAsUser"] >= 10000
    assert shared["seccompProfile"] == {"type": "RuntimeDefault"}
    assert POD["automountServiceAccountToken"] is False


def test_variables_of_services_stay_out() -> None:
    """Those of a Service named asgi-master would be taken for settings, and refused."""
    assert POD["enableServiceLinks"] is False


def test_everything_selects_the_pods() -> None:
    labels = OBJECTS["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for selector in (
        OBJECTS["Deployment"]["spec"]["selector"]["matchLabels"],
        OBJECTS["Service"]["spec"]["selector"],
        OBJECTS["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        *(spread["labelSelector"]["matchLabels"] for spread in POD["topologySpreadConstraints"]),
    ):
        assert selector == labels
    target = OBJECTS["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    deployment = OBJECTS["Deployment"]
    assert target == {
        "apiVersion": deployment["apiVersion"],
        "kind": "Deployment",
        "name": deployment["metadata"]["name"],
    }
    (served,) = OBJECTS["Service"]["spec"]["ports"]
    assert port(served["targetPort"]) == port("http")


def test_scaling_and_scraping_name_what_there_is() -> None:
    page = (ROOT / "docs/reference/metrics.md").read_text()
    names = [
        metric["pods"]["metric"]["name"]
        for metric in OBJECTS["HorizontalPodAutoscaler"]["spec"]["metrics"]
        if metric["type"] == "Pods"
    ]
    assert names
    for name in names:
        assert f"| `{name.removeprefix('asgi_master_')}` | gauge |" in page
    annotations = OBJECTS["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(port("admin"))
    assert f"| `{annotations['prometheus.io/path']}` |" in page
