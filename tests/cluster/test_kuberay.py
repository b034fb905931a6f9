"""The KubeRay manifests against KubeRay's own schemas, Ray's autoscaler, and what they promise."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

from raysafe.runtime.autoscaler import from_config
from tests.cluster.manifests import (
    FILES,
    KUBERAY,
    ROOT,
    cluster_spec,
    documents,
    groups,
    manifest,
    part,
    quantity,
    schema,
    validate,
    without,
)

KINDS = list(FILES)


def pods(resource: dict[str, Any]) -> list[dict[str, Any]]:
    """Every pod's spec that a resource brings about."""
    found = [group["template"]["spec"] for group in groups(cluster_spec(resource))]
    if submitter := resource["spec"].get("submitterPodTemplate"):
        found.append(submitter["spec"])
    return found


def check(kind: str, resource: dict[str, Any]) -> None:
    validate(resource, schema(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_kuberays_schema_takes_the_manifest(kind: str) -> None:
    check(kind, manifest(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_the_schema_refuses_a_misspelt_field_of_a_container(kind: str) -> None:
    resource = manifest(kind)
    container = cluster_spec(resource)["headGroupSpec"]["template"]["spec"]["containers"][0]
    container["securitycontext"] = container.pop("securityContext")
    with pytest.raises(jsonschema.ValidationError, match="securitycontext"):
        check(kind, resource)


def test_the_schema_refuses_an_authentication_that_kuberay_does_not_know() -> None:
    resource = manifest("RayCluster")
    resource["spec"]["authOptions"]["mode"] = "password"
    with pytest.raises(jsonschema.ValidationError, match="password"):
        check("RayCluster", resource)


def test_the_schema_refuses_a_worker_group_without_a_template() -> None:
    with pytest.raises(jsonschema.ValidationError, match="'template' is a required property"):
        check("RayCluster", without(manifest("RayCluster"), "spec", "workerGroupSpecs", 0, "template"))


@pytest.mark.parametrize("kind", ["RayJob", "RayService"])
def test_jobs_and_services_run_on_the_same_cluster(kind: str) -> None:
    expected, found = (cluster_spec(manifest(name)) for name in ("RayCluster", kind))
    if kind == "RayJob":  # it lives as long as its job: a head that dies ends both
        del expected["gcsFaultToleranceOptions"]
    labels = found["headGroupSpec"]["template"]["metadata"]["labels"]
    assert labels.pop("app.kubernetes.io/component", None) == ("gateway" if kind == "RayService" else None)
    assert found == expected


@pytest.mark.parametrize("kind", KINDS)
def test_ray_and_its_rules_are_those_of_this_project(kind: str) -> None:
    import ray

    spec = cluster_spec(manifest(kind))
    assert spec["rayVersion"] == ray.__version__
    assert spec["authOptions"] == {"mode": "token", "secretName": "raysafe-token"}


def test_the_autoscaler_may_add_cpu_and_gpu_workers_and_the_head_takes_no_work() -> None:
    config = _derive_autoscaling_config_from_ray_cr(manifest("RayCluster"))
    head = config["available_node_types"][config["head_node_type"]]
    offered = {kind.name: (kind.cpus, kind.gpus, kind.most) for kind in from_config(config)}
    assert head["resources"]["CPU"] == 0
    assert offered == {"cpu": (8.0, 0.0, 16), "gpu": (64.0, 8.0, 4)}


def test_the_autoscaler_gives_the_pools_their_labels() -> None:
    config = _derive_autoscaling_config_from_ray_cr(manifest("RayCluster"))
    pools = {name: kind["labels"]["raysafe/pool"] for name, kind in config["available_node_types"].items()}
    assert pools == {"headgroup": "head", "cpu": "cpu", "gpu": "gpu"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_pod_fits_the_restricted_profile(kind: str) -> None:
    resource = manifest(kind)
    autoscaler = cluster_spec(resource)["autoscalerOptions"]["securityContext"]
    for pod in pods(resource):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert not any("hostPath" in volume for volume in pod["volumes"])
        for security in (autoscaler, *(container["securityContext"] for container in pod["containers"])):
            assert security["allowPrivilegeEscalation"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert security["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("kind", KINDS)
def test_what_ray_writes_to_is_mounted(kind: str) -> None:
    for pod in pods(manifest(kind)):
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
            needed = {"/tmp", "/home/raysafe"} | (
                {"/dev/shm", "/shared"} if container["name"] != "submitter" else set()
            )
            assert needed <= mounted
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes


@pytest.mark.parametrize("kind", KINDS)
def test_pods_get_what_they_ask_for_and_no_more(kind: str) -> None:
    for pod in pods(manifest(kind)):
        for container in pod["containers"]:
            assert container["resources"]["requests"] == container["resources"]["limits"]


def test_object_stores_fit_into_their_shared_memory_and_that_into_the_pods() -> None:
    for group in groups(cluster_spec(manifest("RayCluster"))):
        pod = group["template"]["spec"]
        (shm,) = [volume["emptyDir"] for volume in pod["volumes"] if volume["name"] == "shm"]
        memory = quantity(pod["containers"][0]["resources"]["limits"]["memory"])
        assert shm["medium"] == "Memory"
        assert int(group["rayStartParams"]["object-store-memory"]) < quantity(shm["sizeLimit"]) < memory / 2


def test_the_state_of_the_cluster_is_in_redis_and_its_password_in_a_secret() -> None:
    options = cluster_spec(manifest("RayCluster"))["gcsFaultToleranceOptions"]
    service, state = documents(KUBERAY / "redis.yaml")
    (container,) = state["spec"]["template"]["spec"]["containers"]
    (claim,) = state["spec"]["volumeClaimTemplates"]
    assert options["redisAddress"] == f"{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    assert options["redisPassword"]["valueFrom"] == container["env"][0]["valueFrom"]
    assert {"name": claim["metadata"]["name"], "mountPath": "/data"} in container["volumeMounts"]


def test_kubernetes_takes_redis_pod_and_service() -> None:
    whole = schema("RayCluster")
    service, state = documents(KUBERAY / "redis.yaml")
    head = part(whole, "spec", "headGroupSpec")
    validate(service["spec"], part(head, "headService", "spec"))
    validate(state["spec"]["template"]["spec"], part(head, "template", "spec"))
    with pytest.raises(jsonschema.ValidationError, match="clusterIp"):
        validate(service["spec"] | {"clusterIp": "None"}, part(head, "headService", "spec"))


def test_the_jobs_script_is_in_the_repository_and_its_image() -> None:
    words = manifest("RayJob")["spec"]["entrypoint"].split()
    script = words[1].removeprefix("/opt/raysafe/")
    assert words[0] == "python"
    assert (ROOT / script).is_file()
    assert "COPY jobs /opt/raysafe/jobs" in (ROOT / "cluster/docker/Dockerfile.cpu").read_text()


def test_no_manifest_holds_a_secret() -> None:
    for path in KUBERAY.glob("*.yaml"):
        for document in documents(path):
            assert document["kind"] not in ("Secret", "ConfigMap"), path.name


def test_the_kustomization_lists_files_that_are_there_and_names_the_images_in_use() -> None:
    (kustomization,) = documents(KUBERAY / "kustomization.yaml")
    images = {c["image"] for pod in pods(manifest("RayCluster")) for c in pod["containers"]}
    assert all((KUBERAY / name).is_file() for name in kustomization["resources"])
    assert {f"{image['name']}:{image['newTag']}" for image in kustomization["images"]} == images


def test_disruption_budgets_name_pods_that_there_are() -> None:
    workers = {group["groupName"] for group in cluster_spec(manifest("RayCluster"))["workerGroupSpecs"]}
    redis = documents(KUBERAY / "redis.yaml")[1]["spec"]["template"]["metadata"]["labels"]
    selectors = [document["spec"]["selector"]["matchLabels"] for document in documents(KUBERAY / "disruption.yaml")]
    assert [selector["ray.io/group"] for selector in selectors if "ray.io/group" in selector] == ["gpu"]
    assert "gpu" in workers
    assert redis in selectors
