# SPDX-License-Identifier: Apache-2.0
"""The image that `make image` writes (dev/image), unpacked as its layout says."""

import gzip
import hashlib
import io
import json
import os
import tarfile
import threading
from pathlib import Path

from oci import Container
from scopetest import TOP, equal


def make(ctx, name, *options, **env):
    path = ctx.dir / f"{name}.tar"
    result = ctx.run([TOP / "dev/image", "--output", path, *options], env=ctx.env(**env), check_code=0)
    return path, result.out.decode()


def blob(archive, descriptor):
    data = archive.extractfile("blobs/sha256/" + descriptor["digest"].removeprefix("sha256:")).read()
    equal((len(data), "sha256:" + hashlib.sha256(data).hexdigest()), (descriptor["size"], descriptor["digest"]), "a blob")
    return data


def image_of(archive, entry):
    """Configuration and unpacked layer of the image of a descriptor."""
    manifest = json.loads(blob(archive, entry))
    layer, = manifest["layers"]
    return json.loads(blob(archive, manifest["config"])), gzip.decompress(blob(archive, layer))


def opened(path):
    """The image's configuration and its one layer, found as docker, podman and skopeo do."""
    with tarfile.open(path) as archive:
        def read(name):
            return json.loads(archive.extractfile(name).read())
        equal(read("oci-layout"), {"imageLayoutVersion": "1.0.0"}, "oci-layout")
        entry, = read("index.json")["manifests"]
        manifest = json.loads(blob(archive, entry))
        config = json.loads(blob(archive, manifest["config"]))
        layer, = manifest["layers"]
        data = gzip.decompress(blob(archive, layer))
        older, = read("manifest.json")
        equal(["sha256:" + p.rpartition("/")[2] for p in (older["Config"], *older["Layers"])],
              [manifest["config"]["digest"], layer["digest"]], "what older versions of docker load")
    equal(config["rootfs"]["diff_ids"], ["sha256:" + hashlib.sha256(data).hexdigest()], "layers")
    return config, data, entry["digest"], older["RepoTags"]


class Image:
    """The image of the tool that is tested, and its root directory."""

    _lock = threading.Lock()

    def __init__(self, ctx):
        path = Path(ctx.options.work) / "image.tar"
        with Image._lock:  # made once for all tests
            if not path.exists():
                os.rename(make(ctx, "image", "--scope", ctx.scope)[0], path)
        self.ctx = ctx
        self.size = path.stat().st_size
        self.config, data, _, _ = opened(path)
        self.root = ctx.fresh("image-root")
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            self.members = tar.getmembers()
            tar.extractall(self.root)
        self.unpacked = len(data)

    def box(self, *words):
        """docker run IMAGE WORDS"""
        how = self.config["config"]
        box = Container(self.ctx, self.root, [*how["Entrypoint"], *(words or how.get("Cmd") or ())])
        box.config["process"]["cwd"] = how["WorkingDir"]
        equal(how["Env"][0] in box.config["process"]["env"], True, "PATH")
        return box
