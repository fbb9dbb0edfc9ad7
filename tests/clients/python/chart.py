"""Judges the Helm chart and the plain manifests, without a cluster.

chart.py CHECKOUT HELM3 HELM4 KUBECTL EVERGATE: prints every fault, a line each, and ends with 1 if
there is one.

chart.py --renew CHECKOUT HELM: writes the renders of all cases anew into helm/evergate/ci/golden, to be looked at in
the difference. (scripts/chart.sh does it with the pinned tools.)
"""

import itertools
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import tomllib

import kubernetes_validate
import yaml
import yamllint.config
import yamllint.linter

import validate_crd

RENEW = sys.argv[1] == "--renew"
if RENEW:
    CHECKOUT, HELMS, KUBECTL, EVERGATE = pathlib.Path(sys.argv[2]), {"4": sys.argv[3]}, "", ""
else:
    CHECKOUT = pathlib.Path(sys.argv[1])
    HELMS = {"3": sys.argv[2], "4": sys.argv[3]}
    KUBECTL, EVERGATE = sys.argv[4:6]
CHART = CHECKOUT / "helm/evergate"
PLAIN = CHECKOUT / "deploy/k8s"
VERSIONS = ("1.30", "1.33", "1.36")
GOLDEN = CHART / "ci/golden"
# Kinds that a cluster has only with an operator, each by its maker's own definition.
CRDS = validate_crd.Crds([CHECKOUT / "tests/clients/crds"], strict=True)
FOREIGN = {kind for _, kind in CRDS.by_key}
LINT = yamllint.config.YamlLintConfig(file=CHECKOUT / ".yamllint.yaml")

faults = []


def fault(where, what):
    faults.append(f"{where}: {what}")


# Evergate takes every variable of its own for a setting, and the test run has some for itself.
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("EVERGATE_")}


def run(*command):
    return subprocess.run(list(map(str, command)), env=CLEAN, capture_output=True, text=True, check=False)


def files(ci):
    """The values files of one case. The production values come before what its case says."""
    return (["values-ha.yaml"] if ci.name.startswith("ha-") else []) + [f"ci/{ci.name}"]


def flags(ci):
    return list(itertools.chain.from_iterable(("-f", CHART / name) for name in files(ci)))


def rendered(helm, ci, *more):
    """What the chart makes of a case, as text."""
    made = run(helm, "template", "rel", CHART, "--namespace", "ns", *flags(ci), *more)
    if made.returncode:
        fault(ci.name, f"cannot be rendered: {made.stderr.strip()}")
    return made.stdout.rstrip() + "\n"


def render(helm, ci, *more):
    return [document for document in yaml.safe_load_all(rendered(helm, ci, *more)) if document]


def check_text(where, text):
    """As YAML: no key twice, nothing that reads as something else."""
    for problem in yamllint.linter.run(text, LINT):
        fault(where, f"line {problem.line}: {problem.message} ({problem.rule})")


def foreign_faults(document):
    """What its maker's definition says against a document."""
    asked = validate_crd.parser().parse_args([])
    _, found = validate_crd.check_doc(document, {}, "", CRDS, asked, ())
    return [f"{finding.path}: {finding.message}" for finding in found]


def pods(documents):
    """Every pod that a document makes: (name, labels, spec)."""
    for document in documents:
        name = f"{document['kind']}/{document['metadata']['name']}"
        if document["kind"] == "Pod":
            yield name, document["metadata"].get("labels", {}), document["spec"]
        elif "template" in document.get("spec", {}):
            template = document["spec"]["template"]
            yield name, template["metadata"]["labels"], template["spec"]


def of_kind(documents, *kinds):
    return [document for document in documents if document["kind"] in kinds]


def check_documents(where, documents):
    """Against the schemas of Kubernetes; unknown fields are faults."""
    seen = set()
    for document in documents:
        name = (document["apiVersion"], document["kind"], document["metadata"]["name"])
        if name in seen:
            fault(where, f"{name} is there twice")
        seen.add(name)
        if document["kind"] in FOREIGN:
            for what in foreign_faults(document):
                fault(where, f"{name}: {what}")
            continue
        if document["kind"] == "Secret":
            fault(where, f"{name}: what is secret is named, and never made here")
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except Exception as why:  # noqa: BLE001: whatever it says is a finding
                fault(where, f"{name} with Kubernetes {version}: {str(why).splitlines()[0]}")


def check_restricted(where, documents):
    """The restricted Pod Security Standard, and what goes beyond it here."""
    for name, _, spec in pods(documents):
        security = spec.get("securityContext", {})
        if security.get("runAsNonRoot") is not True or not security.get("runAsUser"):
            fault(where, f"{name} may run as root")
        if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            fault(where, f"{name} has no seccomp profile")
        if spec.get("automountServiceAccountToken") is not False:
            fault(where, f"{name} is given a token of the cluster")
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            if spec.get(key):
                fault(where, f"{name} uses {key}")
        for volume in spec.get("volumes", []):
            if not set(volume) - {"name"} <= {"configMap", "secret", "emptyDir", "persistentVolumeClaim", "projected"}:
                fault(where, f"{name}: the volume {volume} is not allowed")
        for container in spec.get("containers", []) + spec.get("initContainers", []):
            of = container.get("securityContext", {})
            if of.get("allowPrivilegeEscalation") is not False or of.get("capabilities", {}).get("drop") != ["ALL"]:
                fault(where, f"{name}/{container['name']} may gain privileges")
            if of.get("readOnlyRootFilesystem") is not True:
                fault(where, f"{name}/{container['name']} may write to its image")
            image = container["image"]
            if image.endswith(":latest") or (":" not in image and "@" not in image):
                fault(where, f"{name}: {image} is no fixed version")
            if not container.get("resources", {}).get("requests"):
                fault(where, f"{name}/{container['name']} asks for no resources")
            if "memory" not in container.get("resources", {}).get("limits", {}):
                fault(where, f"{name}/{container['name']} has no bound of memory")


def check_names(where, documents):
    """Nothing is said twice: Helm 4 applies on the server's side, which refuses it."""
    for name, _, spec in pods(documents):
        lists = [("volume", spec.get("volumes", []), "name")]
        for container in spec["containers"]:
            lists.append(("variable", container.get("env", []), "name"))
            lists.append(("port", container.get("ports", []), "name"))
            lists.append(("mount", container.get("volumeMounts", []), "mountPath"))
            mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
            claims = {"data"} if name.startswith("StatefulSet") else set()
            missing = mounted - claims - {volume["name"] for volume in spec.get("volumes", [])}
            if missing:
                fault(where, f"{name}: nothing is behind the mounts {missing}")
        for what, listed, key in lists:
            names = [item[key] for item in listed]
            if len(names) != len(set(names)):
                fault(where, f"{name}: a {what} is there twice: {names}")


def matches(selector, labels):
    return selector.items() <= labels.items()


def check_references(where, documents):
    ports = {}
    for name, labels, spec in pods(documents):
        found = {port["name"]: port["containerPort"] for container in spec["containers"] for port in container.get("ports", [])}
        ports[name] = (labels, found)

    def targets(selector):
        return [found for labels, found in ports.values() if matches(selector, labels)]

    for service in of_kind(documents, "Service"):
        name, behind = service["metadata"]["name"], targets(service["spec"]["selector"])
        if not behind:
            fault(where, f"Service {name} selects nothing")
        for port in service["spec"]["ports"]:
            if any(port["targetPort"] not in found for found in behind):
                fault(where, f"Service {name}: no container has the port {port['targetPort']}")
    for monitor in of_kind(documents, "ServiceMonitor"):
        selector = monitor["spec"]["selector"]["matchLabels"]
        behind = [s for s in of_kind(documents, "Service") if matches(selector, s["metadata"]["labels"])]
        if len(behind) != 1:
            fault(where, f"the ServiceMonitor selects {len(behind)} Services, and every figure must be there once")
        for endpoint in monitor["spec"]["endpoints"]:
            if any(endpoint["port"] not in [p["name"] for p in s["spec"]["ports"]] for s in behind):
                fault(where, f"the ServiceMonitor's port {endpoint['port']} is in no Service")
    for monitor in of_kind(documents, "PodMonitor"):
        behind = targets(monitor["spec"]["selector"]["matchLabels"])
        if not behind or any(e["port"] not in found for e in monitor["spec"]["podMetricsEndpoints"] for found in behind):
            fault(where, "the PodMonitor scrapes nothing")
    for budget in of_kind(documents, "PodDisruptionBudget"):
        if not targets(budget["spec"]["selector"]["matchLabels"]):
            fault(where, "the PodDisruptionBudget covers nothing")
    check_ways(where, documents)
    for policy in of_kind(documents, "NetworkPolicy"):
        admitted = {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]}
        for found in targets(policy["spec"]["podSelector"]["matchLabels"]):
            if set(found) - admitted:
                fault(where, f"the NetworkPolicy shuts the ports {set(found) - admitted}")
    for scaler in of_kind(documents, "HorizontalPodAutoscaler", "ScaledObject"):
        target = scaler["spec"]["scaleTargetRef"]["name"]
        if target not in [d["metadata"]["name"] for d in of_kind(documents, "Deployment")]:
            fault(where, f"{scaler['kind']} scales {target}, which is not there")
    services = {s["metadata"]["name"]: s["spec"]["ports"] for s in of_kind(documents, "Service")}
    for route in of_kind(documents, "HTTPRoute"):
        for rule in route["spec"]["rules"]:
            if rule.get("timeouts", {}).get("request") != "0s":
                fault(where, "the HTTPRoute ends streams after the controller's own time")
            for behind in rule["backendRefs"]:
                if behind["port"] not in [p["port"] for p in services.get(behind["name"], [])]:
                    fault(where, f"the HTTPRoute leads to {behind}, which is not there")
    for ingress in of_kind(documents, "Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                behind = path["backend"]["service"]
                if behind["port"]["name"] not in [p["name"] for p in services.get(behind["name"], [])]:
                    fault(where, f"the Ingress leads to {behind}, which is not there")
    for config in of_kind(documents, "ConfigMap"):
        if sum(map(len, config["data"].values())) > 900_000:
            fault(where, f"ConfigMap {config['metadata']['name']} is too large")


def lets_out(policy, port, labels):
    """Whether a policy lets its pods reach this port of pods with these labels, or of anybody if there are none."""
    for rule in policy["spec"]["egress"]:
        if not any(allowed["port"] == port for allowed in rule["ports"]):
            continue
        if "to" not in rule:
            return True
        if labels is None:
            continue
        for to in rule["to"]:
            chosen = to.get("podSelector", {})
            fits = all(labels.get(e["key"]) in e["values"] for e in chosen.get("matchExpressions", []))
            if fits and matches(chosen.get("matchLabels", {}), labels):
                return True
    return False


def check_ways(where, documents):
    """What has to reach what is let through by the policies on both sides."""
    labelled = {name: labels for name, labels, _ in pods(documents)}
    policies = {p["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"]: p for p in of_kind(documents, "NetworkPolicy")}
    edge = policies.get("edge")
    if not edge:
        return
    # Whoever tests the release asks for a stream as any client does.
    for labels in (labels for name, labels in labelled.items() if name.startswith("Pod/")):
        (http,) = [rule for rule in edge["spec"]["ingress"] if rule["ports"] == [{"port": "http"}]]
        if "from" in http and not any(matches(f.get("podSelector", {}).get("matchLabels", {"": ""}), labels) for f in http["from"]):
            fault(where, "`helm test` is shut out by the NetworkPolicy")
    control = {name: labels for name, labels in labelled.items() if name.endswith("-control")}
    own = f"{next(iter(control)).split('/')[1]}." if control else None
    for config in of_kind(documents, "ConfigMap"):
        told = tomllib.loads(config["data"].get("evergate.toml", config["data"].get("control.toml", "")))
        followed = [("edge", place) for place in told.get("cluster", {}).get("control", [])]
        followed += [("control", peer.partition("=")[2]) for peer in told.get("control", {}).get("peers", [])]
        for component, place in followed:
            host, port = place.split("//")[1].rsplit(":", 1)
            here = next(iter(control.values())) if own and f".{own}" in host else None
            # An overlay's edges follow a group that stands beside them, whose labels the overlay itself is asked for.
            if not own and host.endswith(f".{config['metadata'].get('namespace', 'ns')}.svc"):
                continue
            if component in policies and not lets_out(policies[component], int(port), here):
                fault(where, f"the NetworkPolicy keeps the {component} from {place}")


def seconds(text):
    assert text.endswith("s"), text
    return int(text[:-1])


def check_edge(where, documents):
    """The arithmetic of a drain, the probes, and the settings, which the binary itself must accept."""
    (edge,) = of_kind(documents, "Deployment")
    (config,) = [c for c in of_kind(documents, "ConfigMap") if "evergate.toml" in c["data"]]
    pod = edge["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(config["data"]["evergate.toml"])
        file.flush()
        judged = run(EVERGATE, "config", "check", "--config", file.name, "--log", "redis://h:6379")
        if judged.returncode:
            fault(where, f"evergate refuses the settings: {judged.stderr.strip()}")
    settings = {}
    for line in config["data"]["evergate.toml"].splitlines():
        key, _, value = line.strip().partition(" = ")
        settings[key] = value.strip('"')
    grace = pod["terminationGracePeriodSeconds"]
    needed = container["lifecycle"]["preStop"]["sleep"]["seconds"] + seconds(settings["grace"]) + seconds(settings["deadline"])
    if grace < needed:
        fault(where, f"a pod is killed after {grace} s, and needs {needed}")
    if seconds(settings["drain"]) >= seconds(settings["deadline"]):
        fault(where, "nothing is left after the drain to write what is kept")
    surge = edge["spec"]["strategy"]["rollingUpdate"]["maxSurge"] or 1
    rounds = -(-edge["spec"].get("replicas", 1) // surge)
    if edge["spec"]["progressDeadlineSeconds"] < rounds * (grace + edge["spec"]["minReadySeconds"]):
        fault(where, "a rollout counts as failed before it can be through")
    paths = {key: container[key]["httpGet"]["path"] for key in ("livenessProbe", "readinessProbe", "startupProbe")}
    if paths != {"livenessProbe": "/livez", "readinessProbe": "/readyz", "startupProbe": "/readyz"}:
        fault(where, f"probes ask {paths}")
    for scaler in of_kind(documents, "HorizontalPodAutoscaler", "ScaledObject"):
        behavior = scaler["spec"].get("behavior") or scaler["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        (policy,) = behavior["scaleDown"]["policies"]
        if policy["value"] != 1 or policy["periodSeconds"] < min(1800, grace + 60):
            fault(where, f"it scales down faster than a pod drains: {policy}")


def check_control(where, documents):
    """The control group: how it can be founded, found and followed, and that the binary takes its settings."""
    sets = [d for d in of_kind(documents, "StatefulSet") if d["metadata"]["name"].endswith("-control")]
    if not sets:
        return
    (group,) = sets
    (config,) = [c for c in of_kind(documents, "ConfigMap") if "control.toml" in c["data"]]
    (edge,) = [c for c in of_kind(documents, "ConfigMap") if "evergate.toml" in c["data"]]
    spec, pod = group["spec"], group["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    text, name = config["data"]["control.toml"], group["metadata"]["name"]
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(text)
        file.flush()
        judged = run(EVERGATE, "config", "check", "--config", file.name, "--node", f"{name}-0")
        if judged.returncode:
            fault(where, f"evergate refuses the settings of control nodes: {judged.stderr.strip()}")
    paths = {key: container[key]["httpGet"]["path"] for key in ("livenessProbe", "readinessProbe")}
    if paths != {"livenessProbe": "/livez", "readinessProbe": "/readyz"}:
        fault(where, f"probes of control nodes ask {paths}")
    if spec["podManagementPolicy"] != "Parallel":
        fault(where, "nobody is ready before the group is founded, and it is founded when all are there")
    (service,) = [s for s in of_kind(documents, "Service") if s["metadata"]["name"] == spec["serviceName"]]
    if service["spec"].get("publishNotReadyAddresses") is not True or service["spec"]["clusterIP"] != "None":
        fault(where, "control nodes that are not ready have no names, so they cannot find each other")
    first = spec.get("ordinals", {}).get("start", 0)
    pods_there = {f"{name}-{first + at}.{spec['serviceName']}" for at in range(spec["replicas"])}
    listed = tomllib.loads(text)["control"]["peers"]
    own = {peer.split("//")[1].rsplit(":", 1)[0] for peer in listed if f".{spec['serviceName']}." in peer}
    if {".".join(host.split(".")[:2]) for host in own} != pods_there:
        fault(where, f"{listed} are not the pods {pods_there}")
    for peer in listed:
        number, _, place = peer.partition("=")
        host = place.split("//")[1].split(".")[0]
        if host.startswith(name) and int(host.rsplit("-", 1)[1]) + 1 != int(number):
            fault(where, f"{peer}: the pod takes another number from its name")
    followed = tomllib.loads(edge["data"]["evergate.toml"]).get("cluster", {}).get("control", [])
    if {place.split("//")[1].rsplit(":", 1)[0] for place in followed} != own:
        fault(where, f"the edges follow {followed}, and the nodes are {own}")
    if {volume["name"] for volume in pod["volumes"]} & {"data"}:
        fault(where, "what a node voted for is not on a disk of its own")
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    if not tomllib.loads(text)["control"]["data_dir"].startswith(mounted["data"]):
        fault(where, "what a node voted for is not on its disk")
    budgets = [b for b in of_kind(documents, "PodDisruptionBudget") if b["metadata"]["name"] == name]
    if spec["replicas"] > 1 and [b["spec"]["maxUnavailable"] for b in budgets] != [1]:
        fault(where, "a majority of the control nodes may be evicted")


def check_rules(where, documents):
    """The chart's PrometheusRule holds the file's rules, but for those that were left out."""
    for document in of_kind(documents, "PrometheusRule"):
        committed = yaml.safe_load((CHART / "rules/evergate.yaml").read_text())
        values = {}
        for name in files(next(ci for ci in CASES if ci.name == where)):
            values.update(yaml.safe_load((CHART / name).read_text()).get("monitoring", {}).get("prometheusRule", {}))
        base = values.get("runbookBase", "")
        for group in committed["groups"]:
            group["rules"] = [rule for rule in group["rules"] if rule.get("alert") not in values.get("disabled", [])]
            for rule in group["rules"]:
                if "annotations" in rule and base:
                    rule["annotations"]["runbook_url"] = f"{base}/{rule['annotations']['runbook_url']}"
        if document["spec"]["groups"] != committed["groups"]:
            fault(where, "the PrometheusRule is not what rules/evergate.yaml says")


def check_selectors(documents):
    """What can never change is written down, as version 0.1.0 had it: a chart that changes it cannot upgrade."""
    kept = json.loads((CHART / "ci/selectors.json").read_text())
    now = {
        f"{d['kind']}/{d['metadata']['name']}": d["spec"]["selector"].get("matchLabels", d["spec"]["selector"])
        for d in of_kind(documents, "Deployment", "StatefulSet", "Service")
    }
    for d in of_kind(documents, "StatefulSet"):
        fixed = {key: d["spec"].get(key) for key in ("serviceName", "podManagementPolicy")}
        fixed["volumeClaimTemplates"] = [claim["metadata"]["name"] for claim in d["spec"].get("volumeClaimTemplates", [])]
        now[f"StatefulSet/{d['metadata']['name']}, what else is fixed"] = fixed
    if now != kept:
        fault("selectors", f"differ from ci/selectors.json: {json.dumps(now)}")


def check_upgrade(helm):
    """A scaler's number of replicas is set at the first install and never again."""
    for name, scaled in (("keda-values.yaml", True), ("ha-values.yaml", True), ("default-values.yaml", False)):
        ci = CHART / "ci" / name
        first = of_kind(render(helm, ci), "Deployment")[0]["spec"]
        again = of_kind(render(helm, ci, "--is-upgrade"), "Deployment")[0]["spec"]
        if "replicas" not in first or ("replicas" in again) == scaled:
            fault(name, f"replicas at install {first.get('replicas')}, at upgrade {again.get('replicas')}")


def check_checksums(helm):
    """Pods are replaced when their settings change, and only then."""
    def checksums(*more):
        made = render(helm, CHART / "ci/control-values.yaml", *more)
        return {
            d["metadata"]["name"]: d["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
            for d in of_kind(made, "Deployment", "StatefulSet")
        }

    before = checksums()
    for setting, changed in (
        ("config.sse.heartbeat=11s", {"rel-evergate-edge"}),
        ("control.config.log_output.level=debug", {"rel-evergate-control"}),
        ("edge.resources.requests.cpu=3", set()),
    ):
        now = checksums("--set", setting)
        if {name for name in now if now[name] != before[name]} != changed:
            fault("checksums", f"with {setting}: {before} becomes {now}")


def check_dashboards(where, documents):
    """Each board of the chart is in a ConfigMap, as it is in its file."""
    label = "grafana_dashboard"
    made = {}
    for config in of_kind(documents, "ConfigMap"):
        if label in config["metadata"].get("labels", {}):
            made.update(config["data"])
    if made:
        committed = {file.name: json.loads(file.read_text()) for file in (CHART / "dashboards").glob("*.json")}
        if {name: json.loads(text) for name, text in made.items()} != committed:
            fault(where, f"the dashboards {sorted(made)} are not the files {sorted(committed)}")
    return bool(made)


def check_package(helm, version):
    """The chart can be packed, and its package holds what it needs and nothing of its tests."""
    with tempfile.TemporaryDirectory() as folder:
        packed = run(helm, "package", CHART, "-d", folder)
        archives = list(pathlib.Path(folder).glob("evergate-*.tgz"))
        if packed.returncode or len(archives) != 1:
            fault(f"helm {version}", f"cannot pack the chart: {packed.stderr.strip()}")
            return
        with tarfile.open(archives[0]) as archive:
            names = archive.getnames()
        for name in ("Chart.yaml", "values.schema.json", "rules/evergate.yaml", "dashboards/overview.json"):
            if f"evergate/{name}" not in names:
                fault(f"helm {version}", f"{name} is not in the package")
        if any("/ci/" in name for name in names):
            fault(f"helm {version}", "the package holds the cases of its tests")
        made = run(helm, "template", "rel", archives[0], "-f", CHART / "ci/default-values.yaml")
        if made.returncode:
            fault(f"helm {version}", f"the package cannot be rendered: {made.stderr.strip()}")


# What a real cluster tells: its kinds, and those of an operator, or not.
CLUSTER = ["-a", "apps/v1/Deployment"]
NEEDED = [
    (["gatewayApi.enabled=true", "gatewayApi.parentRefs[0].name=g"], "gateway.networking.k8s.io/v1/HTTPRoute"),
    (["edge.autoscaling.mode=keda", "edge.autoscaling.keda.prometheusServer=p", "edge.autoscaling.keda.scraped=true"], "keda.sh/v1alpha1/ScaledObject"),
    (["monitoring.serviceMonitor.enabled=true"], "monitoring.coreos.com/v1/ServiceMonitor"),
    (["monitoring.podMonitor.enabled=true"], "monitoring.coreos.com/v1/PodMonitor"),
    (["monitoring.prometheusRule.enabled=true"], "monitoring.coreos.com/v1/PrometheusRule"),
]


def check_needs(helm, version):
    """A cluster without an operator's kinds is told of, before half of a release is in it."""
    for settings, kind in NEEDED:
        sets = list(itertools.chain.from_iterable(("--set", setting) for setting in settings))
        base = [helm, "template", "rel", CHART, "-f", CHART / "ci/default-values.yaml", *sets]
        if run(*base, *CLUSTER).returncode == 0 or kind not in run(*base, *CLUSTER).stderr:
            fault(f"helm {version}", f"{settings} is not refused where {kind} is unknown")
        for known in ([*CLUSTER, "-a", kind], []):
            made = run(*base, *known)
            if made.returncode:
                fault(f"helm {version}", f"{settings} with {known}: {made.stderr.strip()}")


# One broken document of each kind: what must be found.
BROKEN = [
    ("gateway.networking.k8s.io/v1", "HTTPRoute", {"rules": [{"timeouts": {"request": "never"}}]}, "request"),
    ("keda.sh/v1alpha1", "ScaledObject", {"scaleTargetRef": {"name": "x"}}, "triggers"),
    ("monitoring.coreos.com/v1", "ServiceMonitor", {"selector": {}, "endpoints": [{"prot": "admin"}]}, "prot"),
    ("monitoring.coreos.com/v1", "PodMonitor", {"selector": {}, "podMetricsEndpoints": [{"interval": "soon"}]}, "interval"),
    ("monitoring.coreos.com/v1", "PrometheusRule", {"groups": [{"name": "g", "rules": [{"alert": "A"}]}]}, "expr"),
]


def check_the_checks():
    """Whatever finds nothing in the chart does find what is wrong."""
    for version, kind, spec, what in BROKEN:
        found = foreign_faults({"apiVersion": version, "kind": kind, "metadata": {"name": "x"}, "spec": spec})
        if not any(what in fault for fault in found):
            fault("checks", f"a broken {kind} passes: {found}")
    if FOREIGN != {kind for _, kind, _, _ in BROKEN}:
        fault("checks", f"{FOREIGN} are known, and not all of them are tried")
    if not list(yamllint.linter.run("a: 1\na: 2\n", LINT)):
        fault("checks", "a key that is there twice passes")


def golden(text):
    """A render without what is compared with files of its own: the dashboards and the rules."""
    documents = text.split("\n---\n")
    own = ("monitoring/dashboards.yaml", "monitoring/rules.yaml")
    return "\n---\n".join(d for d in documents if not any(f"templates/{name}" in d for name in own)).rstrip() + "\n"


def check_golden(helm, ci):
    """What a change of the chart changes is seen in the difference of these files."""
    file = GOLDEN / ci.name.replace("-values", "")
    if RENEW:
        GOLDEN.mkdir(exist_ok=True)
        file.write_text(golden(rendered(helm, ci)))
    elif not file.exists() or file.read_text() != golden(rendered(helm, ci)):
        fault(ci.name, f"{file.relative_to(CHECKOUT)} is not what the chart makes: run scripts/chart.sh, and look at the difference")


REFUSED = [
    ([], "global.region|region"),
    (["global.region=eu"], "redis.external.existingSecret is missing"),
    (["global.region=eu west", "redis.mode=builtin"], "region"),
    (["global.region=eu", "redis.mode=builtin", "edge.replicas=3"], "replicas"),
    (["global.region=eu", "redis.mode=cluster"], "mode"),
    (["global.region=eu", "redis.mode=builtin", "image.tag=latest"], "tag"),
    (["global.region=eu", "redis.mode=builtin", "edge.terminationGracePeriodSeconds=60"], "killed in the middle of its drain"),
    (["global.region=eu", "redis.mode=builtin", "edge.connections.targetPerPod=30000"], "more than maxPerPod"),
    (["global.region=eu", "redis.mode=builtin", "edge.autoscaling.mode=hpa"], "without a replica"),
    (["global.region=eu", "redis.external.existingSecret=s", "edge.autoscaling.mode=keda"], "prometheusServer is missing"),
    (["global.region=eu", "redis.external.existingSecret=s", "edge.autoscaling.mode=hpa", "edge.autoscaling.minReplicas=13"], "more than maxReplicas"),
    (["global.region=eu", "redis.mode=builtin", "edge.podDisruptionBudget.maxUnavailable=3"], "every pod to be away at once"),
    (["global.region=eu", "redis.mode=builtin", "edge.strategy.maxSurge=0"], "no rollout can begin"),
    (["global.region=eu", "redis.mode=builtin", "gatewayApi.enabled=true"], "parentRefs is missing"),
    (["global.region=eu", "redis.mode=builtin", "ingress.enabled=true"], "hosts is missing"),
    (["global.region=eu", "redis.mode=builtin", "ingress.enabled=true", "ingress.hosts[0]=h", "gatewayApi.enabled=true", "gatewayApi.parentRefs[0].name=g"], "choose one"),
    (["global.region=eu", "redis.mode=builtin", "monitoring.serviceMonitor.enabled=true", "monitoring.podMonitor.enabled=true"], "counted twice"),
    (["global.region=eu", "redis.mode=builtin", "config.http.address=1.2.3.4:5"], "config.http.address is decided by the chart"),
    (["global.region=eu", "redis.mode=builtin", "control.enabled=true", "control.replicaCount=4"], "an even number"),
    (["global.region=eu", "redis.mode=builtin", "control.enabled=true", "control.external[0]=http://h:8083"], "the edges follow one group"),
    (["global.region=eu", "redis.mode=builtin", "control.external[0]=h:8083"], "external"),
    (["global.region=eu", "redis.mode=builtin", "control.firstOrdinal=3"], "of no use without control.enabled"),
    (["global.region=eu", "redis.mode=builtin", "control.enabled=true", "control.firstOrdinal=3"], "name all its nodes in control.peers"),
    (["global.region=eu", "redis.mode=builtin", "control.enabled=true", "control.tls.existingSecret=s"], "the edges have to prove themselves"),
    (["global.region=eu", "redis.mode=builtin", "control.enabled=true", "control.config.control.peers[0]=x"], "control.config.control.peers is decided by the chart"),
    (["global.region=eu", "redis.mode=builtin", "config.cluster.control[0]=x"], "config.cluster.control is decided by the chart"),
    (["global.region=eu", "redis.mode=builtin", "control.enabled=true", "config.cluster.policies_file=/x"], "config.cluster.policies_file is decided by the chart"),
    (["global.region=eu", "redis.mode=builtin", "control.enabled=true", "control.replicaCount=1", "control.peers[0]=2=http://h:8083"], "control.peers lacks node 1"),
    (["global.region=eu", "redis.external.existingSecret=s", "edge.autoscaling.mode=keda", "edge.autoscaling.keda.prometheusServer=p"], "nothing here has them scraped"),
    (["global.region=eu", "redis.external.existingSecret=s", "edge.autoscaling.mode=hpa", "edge.podDisruptionBudget.maxUnavailable=3"], "raise edge.autoscaling.minReplicas"),
    (["global.region=eu", "redis.mode=builtin", "config.log=memory"], "config.log is decided by the chart"),
    (["global.region=eu", "redis.mode=builtin", "edge.adminToken.existingSecret=s", "config.admin.token_file=/t"], "two places for one token"),
]


def check_refusals(helm, version):
    for settings, words in REFUSED:
        sets = list(itertools.chain.from_iterable(("--set", setting) for setting in settings))
        made = run(helm, "template", "rel", CHART, *sets)
        if not made.returncode:
            fault(f"helm {version}", f"{settings} is not refused")
        elif not any(word in made.stderr for word in words.split("|")):
            fault(f"helm {version}", f"{settings} is refused without {words!r}: {made.stderr.strip()}")


def check_plain(helm):
    """The plain manifests are the chart's, and every overlay builds and is valid."""
    with tempfile.TemporaryDirectory() as rendered:
        made = run(PLAIN / "render.sh", helm, rendered)
        for name in ("base/evergate.yaml", "control/control.yaml"):
            file = pathlib.Path(rendered) / name
            if made.returncode or file.read_text() != (PLAIN / name).read_text():
                fault(f"deploy/k8s/{name}", f"is not the chart's: run deploy/k8s/render.sh {made.stderr.strip()}")
    built = run(KUBECTL, "kustomize", PLAIN / "control")
    control = [document for document in yaml.safe_load_all(built.stdout) if document]
    if not of_kind(control, "StatefulSet"):
        fault("deploy/k8s/control", f"has no control nodes: {built.stderr.strip()}")
    for check in (check_documents, check_restricted, check_names, check_references):
        check("deploy/k8s/control", control)
    overlays = sorted(PLAIN.glob("overlays/*/*"))
    if len([o for o in overlays if o.parent.name == "regions"]) != 3 or len([o for o in overlays if o.parent.name == "centres"]) != 4:
        fault("deploy/k8s/overlays", "three regions and four centres are expected")
    for overlay in overlays:
        built = run(KUBECTL, "kustomize", overlay)
        if built.returncode:
            fault(overlay.name, built.stderr.strip())
            continue
        documents = list(yaml.safe_load_all(built.stdout))
        check_documents(overlay.name, documents)
        check_restricted(overlay.name, documents)
        check_names(overlay.name, documents)
        check_references(overlay.name, documents)
        # The control nodes are none of the overlay's own, so its labels must not be asked of them.
        (policy,) = of_kind(documents, "NetworkPolicy")
        reached = [rule["to"] for rule in policy["spec"]["egress"] if rule["ports"] == [{"port": 8083}]]
        if [list(to["podSelector"]) for to in itertools.chain.from_iterable(reached)] != [["matchExpressions"]]:
            fault(overlay.name, f"the edges reach control nodes by {reached}")
        (edge,) = of_kind(documents, "Deployment")
        env = edge["spec"]["template"]["spec"]["containers"][0]["env"]
        region = [e["value"] for e in env if e["name"] == "EVERGATE_REGION"]
        if len(region) != 1 or not overlay.name.startswith(region[0]):
            fault(overlay.name, f"is region {region}")


CASES = sorted((CHART / "ci").glob("*-values.yaml"))
if RENEW:
    for ci in CASES:
        check_golden(HELMS["4"], ci)
    sys.exit(1 if faults else 0)
if len(CASES) < 10:
    fault("ci", f"only {len(CASES)} cases were found")
check_the_checks()
for file in [
    *CHART.glob("*.yaml"), *CHART.glob("ci/*.yaml"), *CHART.glob("rules/*.yaml"),
    *(CHECKOUT / "deploy").rglob("*.yaml"), CHECKOUT / ".yamllint.yaml",
]:
    check_text(str(file.relative_to(CHECKOUT)), file.read_text())
boards = False
for version, helm in HELMS.items():
    if not run(helm, "version", "--short").stdout.startswith(f"v{version}."):
        fault(helm, f"is not Helm {version}")
    for ci in CASES:
        linted = run(helm, "lint", "--strict", CHART, *flags(ci))
        if linted.returncode:
            fault(f"helm {version}", f"lint {ci.name}: {linted.stdout}{linted.stderr}")
        check_text(ci.name, rendered(helm, ci))
        documents = render(helm, ci)
        check_documents(ci.name, documents)
        check_restricted(ci.name, documents)
        check_names(ci.name, documents)
        check_references(ci.name, documents)
        check_edge(ci.name, documents)
        check_control(ci.name, documents)
        check_rules(ci.name, documents)
        boards |= check_dashboards(ci.name, documents)
    check_selectors(render(helm, CHART / "ci/builtin-redis-values.yaml", "--set", "control.enabled=true"))
    check_upgrade(helm)
    check_checksums(helm)
    check_refusals(helm, version)
    check_needs(helm, version)
    check_package(helm, version)
for ci in CASES:
    check_golden(HELMS["4"], ci)
if not boards:
    fault("ci", "no case has the dashboards")
check_plain(HELMS["4"])

for line in faults:
    print(line)
print(f"{len(CASES)} cases, {len(faults)} faults", file=sys.stderr)
sys.exit(1 if faults else 0)
