#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Run by `meson install`: man page and completion, made by the executable that is being installed.
set -eu
scope=$1
share=${MESON_INSTALL_DESTDIR_PREFIX:?}/share
mkdir -p "$share/man/man1" "$share/bash-completion/completions" "$share/zsh/site-functions"
"$scope" help --man >"$share/man/man1/scope.1"
"$scope" completion bash >"$share/bash-completion/completions/scope"
"$scope" completion zsh >"$share/zsh/site-functions/_scope"
chmod 644 "$share/man/man1/scope.1" "$share/bash-completion/completions/scope" "$share/zsh/site-functions/_scope"
