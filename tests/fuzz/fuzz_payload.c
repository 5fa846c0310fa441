/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arbitrary bytes as the index of captured traffic, behind a good first line;
 * its flows find 100 KB in f.in and nothing in f.out. Everything is read, and
 * written as packets. Besides not crashing: there can't be more chunks' bytes
 * than a file has, so what comes out is bounded by what is there.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "session/packets.h"

#define HEAD "{\"type\":\"index\",\"version\":1,\"session\":1,\"start_ns\":1}\n"
#define FILE_BYTES 100000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[] = "/tmp/scope-fuzz-payload-XXXXXX";
static char path[128];

static void put(const char *name, const void *head, size_t head_len, const void *bytes, size_t size)
{
    int fd;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write_all(fd, head, head_len) < 0 || write_all(fd, bytes, size) < 0)
        abort();
    close(fd);
}

static void remove_files(void)
{
    static const char *const names[] = {"f.in", "f.out", "index.ndjson"};

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
        unlink(path);
    }
    rmdir(dir);
}

static void prepare(void)
{
    static char content[FILE_BYTES];

    if (!mkdtemp(dir))
        abort();
    atexit(remove_files);
    memset(content, 'x', sizeof(content));
    put("f.in", "", 0, content, sizeof(content));
    put("f.out", "", 0, "", 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static FILE *null;
    struct payload_reader *r;
    struct payload_record rec;
    struct packets *p;
    uint64_t lines = 0;

    if (!null) {
        prepare();
        null = fopen("/dev/null", "w");
    }
    put("index.ndjson", HEAD, sizeof(HEAD) - 1, data, size);
    if (payload_reader_new(dir, 1, 0, &r) < 0)
        abort();
    p = packets_new(null, r, "fuzz");
    while (payload_next(r, &rec) == 1) {
        lines++;
        packets_add(p, &rec);
    }
    if (lines > size)
        abort();
    for (uint64_t n = 1; payload_entry(r, n); n++)
        if (payload_entry(r, n)->number != n || n > lines)
            abort();
    packets_free(p);
    payload_reader_free(r);
    return 0;
}
