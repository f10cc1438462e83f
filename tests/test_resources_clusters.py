"""Jobs on real launchers: a killed rank, and what comes after. Each test starts what it needs, and stops it."""
import json
import os
import pickle
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fsdl_course import Layout, Transformer
from fsdl_course.parallel import train
from fsdl_course.resources.launching import Kubeflow, Kubernetes, SageMaker, Slurm, _marked, submit
from fsdl_course.resources.manifests import problems
from fsdl_course.resources.slurm import SlurmCluster, missing

MINI = Transformer(name="mini", layers=1, hidden=16, heads=2, vocab=256, seq=8)


def dies_at(step, marker, pid_of=1):
    "Data whose rank `pid_of` kills itself at a step, once: then `marker` is there."
    import torch.distributed as dist

    from fsdl_course.parallel.text import Text

    def data(number):
        if number == step and dist.get_rank() == pid_of and not Path(marker).exists():
            Path(marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return Text(4, 8, 0).batch(number)

    return data


def survives(to, folder, meanwhile=lambda job: None, **more):
    "Kill rank 1 in step 3 of a job, and hold what came out to an undisturbed run; the job."
    settings = dict(steps=5, dtype="float64")
    job = submit(train, MINI, Layout(dp=2, micro_batch=2), **settings, checkpoint=folder / "saved", every=1, data=dies_at(3, folder / "killed"),
                 to=to, restarts=1, folder=folder / "job", **more)
    here = train(MINI, Layout(dp=2, micro_batch=2), **settings, data=dies_at(99, folder / "never"))
    try:
        meanwhile(job)
        there = job.result(timeout=400)  # on a busy machine Ray takes minutes
    finally:
        job.cancel()
    assert (folder / "killed").exists()
    assert there.difference(here) < 1e-10 and there.losses == here.losses and there.replicas_agree
    assert [one["resume"] for one in job.attempts()] == [None, str(folder / "saved")]
    return job


@pytest.mark.extras
@pytest.mark.parametrize("to", ["local", "torchrun"])
def test_after_a_killed_rank_a_job_goes_on_from_its_newest_checkpoint(to, tmp_path):
    job = survives(to, tmp_path)
    assert job.status() == "done"
    deadline = time.monotonic() + 30
    while _marked(job.folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _marked(job.folder)


here = pytest.mark.skipif(bool(missing()), reason=missing() or "SLURM is here")


@pytest.mark.extras
@here
@pytest.mark.timeout(500)
def test_slurm(tmp_path):
    with SlurmCluster(2) as cluster:
        slurm = Slurm(nodes=2, minutes=10, environment=cluster.env)

        def hurry(job):
            "A requeued job waits two minutes, unless somebody says otherwise."
            deadline = time.monotonic() + 150
            while not (job.attempts() and job.status() == "queued") and time.monotonic() < deadline:
                time.sleep(0.3)
            cluster._ask("scontrol", "update", f"jobid={job.id}", "starttime=now")

        with pytest.raises(ValueError, match=r"partition must be one of all \(2 nodes\), not 'gpu'"):
            submit(train, MINI, Layout(dp=2), to=Slurm(partition="gpu", environment=cluster.env), folder=tmp_path / "no")
        with pytest.raises(ValueError, match="4 are asked for, and partition all has 2"):
            submit(train, MINI, Layout(dp=4), to=Slurm(nodes=4, environment=cluster.env), folder=tmp_path / "no")
        with pytest.raises(ValueError, match="SLURM refused the job, and nothing was sent: .*"):
            submit(train, MINI, Layout(dp=2), to=Slurm(nodes=2, environment=cluster.env, more={"gres": "gpu:1"}), folder=tmp_path / "no")
        assert not (tmp_path / "no").exists()
        job = survives(slurm, tmp_path, hurry)
        assert job.status() == "done"
        runs = submit(train, MINI, Layout(dp=2), steps=100_000, to=slurm, folder=tmp_path / "runs")
        waits = submit(train, MINI, Layout(dp=2), to=slurm, folder=tmp_path / "waits")
        assert waits.status() == "queued" and waits.cancel() and waits.cancelled()
        assert runs.cancel() and runs.cancelled()
    with pytest.raises(ConnectionError, match="does not answer: sinfo says"):
        submit(train, MINI, Layout(dp=2), to=slurm, folder=tmp_path / "gone")
    assert not (tmp_path / "gone").exists()


@pytest.mark.extras
@pytest.mark.timeout(600)
def test_ray(tmp_path):
    pytest.importorskip("ray")
    job = survives("ray", tmp_path)
    deadline = time.monotonic() + 60
    while _marked(job.folder) and time.monotonic() < deadline:
        time.sleep(0.3)
    assert job.status() == "done" and not _marked(job.folder)


class Api(BaseHTTPRequestHandler):
    "As much of a Kubernetes API as a submission needs: objects by path. What is in `refused` can't be made."

    objects: dict[str, dict] = {}
    refused: set[str] = set()

    def answer(self, code, body):
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def do_GET(self):
        self.answer(200, self.objects[self.path]) if self.path in self.objects else self.answer(404, {"message": f"{self.path} not found"})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body["kind"] in self.refused:
            return self.answer(403, {"message": f"no right to make a {body['kind']}"})
        self.objects[f"{self.path}/{body['metadata']['name']}"] = body
        return self.answer(201, body)

    def do_DELETE(self):
        self.answer(200, {}) if self.objects.pop(self.path, None) else self.answer(404, {})

    def log_message(self, *_):
        pass


@pytest.fixture
def api(tmp_path, monkeypatch):
    pytest.importorskip("kubernetes")
    monkeypatch.setattr(Api, "objects", {"/api/v1/namespaces/lab/persistentvolumeclaims/shared": {}})
    monkeypatch.setattr(Api, "refused", set())
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    named = {"name": "a", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}, "context": {"cluster": "a", "user": "a"}, "user": {}}
    (tmp_path / "config").write_text(json.dumps({"current-context": "a", "clusters": [named], "contexts": [named], "users": [named]}))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "config"))
    yield Api
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.extras
@pytest.mark.parametrize("kind", [Kubernetes, Kubeflow])
def test_kubernetes(api, tmp_path, kind):
    to = kind(claim="shared", namespace="lab", mounted=tmp_path / "claim")
    job = submit(train, MINI, Layout(dp=2), to=to, name="demo", folder=tmp_path / "job")
    path = [path for path in api.objects if path.endswith("jobs/demo")][0]
    assert len(api.objects) == len(job.sent.manifests) + 1 and job.status() == "queued"
    api.objects[path]["status"] = {"active": 1, "jobsStatus": [{"name": "node"}]}
    assert job.running()
    api.objects[path]["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
    with pytest.raises(FileNotFoundError, match="demo/result.pkl on the claim 'shared'"):
        job.result(timeout=5)
    (job.folder / "complete").unlink()
    (tmp_path / "claim" / "demo").mkdir(parents=True)
    (tmp_path / "claim" / "demo" / "result.pkl").write_bytes(pickle.dumps(7))
    assert job.result(timeout=5) == 7
    other = submit(train, MINI, Layout(dp=2), to=to, name="other", folder=tmp_path / "other")
    assert other.cancel() and other.cancelled() and not any("other" in path for path in api.objects)


@pytest.mark.extras
def test_nothing_is_half_submitted_to_kubernetes(api, tmp_path):
    to, before = Kubernetes(claim="shared", namespace="lab"), dict(api.objects)
    api.refused = {"Job"}
    with pytest.raises(ValueError, match="the Job demo was refused .403: no right to make a Job.; nothing was left there"):
        submit(train, MINI, Layout(dp=2), to=to, name="demo", folder=tmp_path / "job")
    assert api.objects == before and not (tmp_path / "job").exists()
    with pytest.raises(ValueError, match="namespace 'lab' has no PersistentVolumeClaim 'fsdl-course'; kubectl get pvc"):
        submit(train, MINI, Layout(dp=2), to=Kubernetes(namespace="lab"), folder=tmp_path / "job")
    config = json.loads((tmp_path / "config").read_text())
    config["clusters"][0]["cluster"]["server"] = "http://127.0.0.1:1"
    (tmp_path / "config").write_text(json.dumps(config))
    with pytest.raises(ConnectionError, match="127.0.0.1:1 does not answer .*kubectl cluster-info"):
        submit(train, MINI, Layout(dp=2), to=to, folder=tmp_path / "job")
    (tmp_path / "config").write_text("{}")
    with pytest.raises(ConnectionError, match="there is no cluster to talk to"):
        submit(train, MINI, Layout(dp=2), to=to, folder=tmp_path / "job")
    assert not (tmp_path / "job").exists()


@pytest.mark.extras
def test_all_that_would_be_sent_is_valid():
    pytest.importorskip("kubernetes_validate")
    for to in (Kubernetes(nodes=2, gpus=1), Kubeflow(nodes=2), SageMaker(role="arn:aws:iam::123456789012:role/laboratory")):
        sending = submit(train, MINI, Layout(dp=4), to=to, name="demo", restarts=2, dry_run=True)
        assert [problems(one) for one in sending.manifests] == [[]] * len(sending.manifests)
