#!/bin/sh
# Builds a real S3-compatible server for the tests of the S3 store: versitygw (Apache-2.0), by default into
# build/s3-server. Needs Go 1.25 or newer; takes a few minutes once.
#
#     tools/install_s3_server.sh [DIRECTORY]
#
# Versions before 1.8 let several of 16 racing conditional writes win, which the tests notice.
set -eu

version=v1.8.0
directory=${1:-build/s3-server}

if [ -x "$directory/versitygw" ] && "$directory/versitygw" --version 2>/dev/null | grep -q "$version"; then
    echo "versitygw $version is there already: $directory/versitygw"
    exit 0
fi
if ! command -v go >/dev/null 2>&1; then
    echo "Go is missing; install Go 1.25 or newer, then run this again" >&2
    exit 1
fi
mkdir -p "$directory"
directory=$(cd "$directory" && pwd)
# One package at a time, at low priority: a machine with two cores stays usable.
GOBIN="$directory" GOFLAGS="${GOFLAGS:--p=1}" nice -n 10 \
    go install -ldflags "-X main.Version=$version" "github.com/versity/versitygw/cmd/versitygw@$version"
echo "installed: $directory/versitygw"
