# SPDX-License-Identifier: Apache-2.0
"""The webhook of `scope k8s --server`, as the API server meets it: HTTPS with the CA of the manifests."""

import base64
import http.client
import json
import socket
import ssl
import subprocess


from needed import needed
from scopetest import TESTS, TOP, Failure, check, equal

jsonpatch = needed("jsonpatch")
yaml = needed("yaml")

NAME = "scope.appscope.svc"


def manifests(ctx, *flags):
    return list(yaml.safe_load_all(ctx.run([ctx.scope, "k8s", *flags], check_code=0).out))


def valid(ctx, objects):
    """Fails if Kubernetes' own description of its API doesn't allow one of the objects."""
    result = ctx.run([ctx.tool("node"), TESTS / "k8s/validate.mjs", TOP / "build/npm/node_modules"],
                     stdin=json.dumps(objects).encode(), check_code=0)
    for o, problems in zip(objects, json.loads(result.out), strict=True):
        check(not problems, f"{o['kind']} {o['metadata'].get('name')} isn't valid", *problems, json.dumps(o)[:3000])


class Webhook:
    """One that runs, by the CA of freshly printed manifests unless flags say otherwise."""

    def __init__(self, ctx, *flags, ca=True):
        self.ctx = ctx
        self.log_path = ctx.dir / f"webhook-{len(ctx.started)}.log"
        self.ca = ctx.dir / "ca.crt"
        if ca:
            secret = next(o for o in manifests(ctx) if o["kind"] == "Secret")["stringData"]
            self.ca.write_text(secret["ca.crt"])
            (ctx.dir / "ca.key").write_text(secret["ca.key"])
            flags = ("--cafile", self.ca, "--cakeyfile", ctx.dir / "ca.key", *flags)
        with open(self.log_path, "wb") as log:
            self.process = ctx.start([ctx.scope, "k8s", "--server", "--address", "127.0.0.1", *(() if "--port" in flags else ("--port", "0")), *flags],
                                     stderr=log)
        ctx.wait_for(lambda: "listening on port" in self.log() or self.process.poll() is not None, "the webhook listens")
        check(self.process.poll() is None, "the webhook ended", self.log())
        self.port = int(self.log().split("listening on port ")[1].split()[0])

    def log(self):
        return self.log_path.read_text()

    def connect(self, name=NAME):
        """A TLS connection; the certificate must be for the name of the service."""
        tls = ssl.create_default_context(cafile=self.ca)
        tls.verify_flags |= ssl.VERIFY_X509_STRICT
        return tls.wrap_socket(socket.create_connection(("127.0.0.1", self.port), timeout=120), server_hostname=name)

    def is_trusted(self):
        """Whether its certificate is good by the CA that we know."""
        try:
            self.connect().close()
            return True
        except ssl.SSLError:
            return False

    def http(self):
        connection = http.client.HTTPSConnection(NAME, self.port, timeout=120)
        connection.sock = self.connect()
        return connection

    def ask(self, body, path="/mutate", connection=None, method="POST", status=200):
        c = connection or self.http()
        c.request(method, path, body if method == "POST" else None, {"Content-Type": "application/json"})
        answer = c.getresponse()
        text = answer.read()
        equal(answer.status, status, "status")
        if not connection:
            c.close()
        return text

    def response(self, body, connection=None):
        """`response` of the AdmissionReview that comes back, whatever was sent."""
        return response_of(self.ask(body, connection=connection))

    def review(self, pod, connection=None, warnings=0, **request):
        """A pod through the webhook: as it comes out of it, and the patch."""
        body = review_of(pod, **request)
        r = self.response(json.dumps(body).encode(), connection)
        equal(r["uid"], body["request"]["uid"], "uid")
        equal(len(r.get("warnings", [])), warnings, f"warnings {r.get('warnings')}")
        if "patch" not in r:
            return pod, []
        equal(r["patchType"], "JSONPatch", "kind of patch")
        patch = json.loads(base64.b64decode(r["patch"], validate=True))
        check(patch, "an empty patch")
        return jsonpatch.apply_patch(pod, patch), patch

    def counters(self):
        return dict(line.rsplit(" ", 1) for line in self.ask(None, "/metrics", method="GET").decode().splitlines() if line[0] != "#")


def review_of(pod, operation="CREATE", namespace="shop", sub=None, old=None, uid="705ab4f5-6393-11e8-b7cc-42010a800002"):
    request = {"uid": uid, "kind": {"group": "", "version": "v1", "kind": "Pod"},
               "resource": {"group": "", "version": "v1", "resource": "pods"}, "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
               "namespace": namespace, "operation": operation, "dryRun": False, "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
               "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller", "groups": ["system:authenticated"]},
               "object": pod, "oldObject": old}
    if sub:
        request["subResource"] = sub
    return {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}


def response_of(text):
    try:
        answer = json.loads(text)
    except ValueError:
        raise Failure(f"no JSON: {text[:300]!r}") from None
    equal((answer["kind"], answer["apiVersion"]), ("AdmissionReview", "admission.k8s.io/v1"), "answer")
    r = answer["response"]
    check(r["allowed"] is True and isinstance(r["uid"], str), "not allowed", r)
    return r


def certificate(directory, name=NAME, expired=False, file="tls"):
    """A certificate and its key, self-signed, as files FILE.crt and FILE.key."""
    def openssl(*argv):
        subprocess.run(["openssl", *argv], check=True, capture_output=True, stdin=subprocess.DEVNULL)

    key, crt, request = (directory / f"{file}.{end}" for end in ("key", "crt", "csr"))
    new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}", "-keyout", key]
    if not expired:
        openssl(*new, "-x509", "-days", "2", "-addext", f"subjectAltName=DNS:{name}", "-out", crt)
        return
    openssl(*new, "-new", "-out", request)
    (directory / "index").write_text("")
    (directory / "serial").write_text("01\n")
    (directory / "ca.conf").write_text(f"[ca]\ndefault_ca = d\n[d]\ndatabase = {directory}/index\nserial = {directory}/serial\nnew_certs_dir = {directory}\n"
                                       "default_md = sha256\npolicy = p\n[p]\ncommonName = supplied\n")
    openssl("ca", "-batch", "-selfsign", "-notext", "-config", directory / "ca.conf", "-in", request, "-keyfile", key,
            "-startdate", "20200101000000Z", "-enddate", "20200201000000Z", "-out", crt)
