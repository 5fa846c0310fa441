# SPDX-License-Identifier: Apache-2.0
"""Events and metrics are valid against our JSON schemas (docs/schemas), and against those of AppScope 1.4, where those are right.

Ours are what every session of every test is validated against (tests/lib/schemas.py). What is tested here is that they are
up to date, and that the quick validator agrees with python3-jsonschema.

The schemas of 1.4 lie in ../shared/reference/schemas beside the checkout, which is not
always there: without them those tests are skipped, with that reason, and count
neither as passed nor as failed. WRONG lists each place where a schema does not
describe what is right, and why; everything else must be valid.
"""

import copy
import json
import re
from collections import Counter

import schemas
from scopetest import TOP, Skip, check, equal, test

SCHEMAS = TOP.parent / "shared" / "reference" / "schemas"

# (schema, path of the offending member, validator keyword, message, reason). Regular expressions, matched as a whole.
WRONG = [
    (r"(event|metric)_.*", r"body(\.data)?\.op", r"enum|const", r".*",
     "op lists functions of a libc (fopen, __read_chk); here op is the name of the system call"),
    (r"(event|metric)_(fs|net)_error", r"body(\.data)?\.class", r"enum|const", r".*",
     "the classes are incomplete: delete, create, rename, change, sync and seek fail too, and net.error knows rx_tx"),
    (r"event_fs_(read|write)", r"body\.data\._metric_type", r"const", r".*",
     "says histogram; bytes are a counter, as 1.4 itself sent"),
    (r"event_notice", r"body\.sourcetype", r"const", r".*",
     "says metric; a notice stands for an event of any kind"),
    (r"event_net_app", r"body\.data\.protocol", r"enum", r".*",
     "knows HTTP only; users define protocols, and there were others that are built in"),
    (r"metric_.*", r"body", r"required", r"'(args|fd|op|file|class|proto|port|numops|domain|local.*|remote.*)' is .*",
     "requires tags that a metric carries only from a certain verbosity on, and those of single operations in sums"),
    (r"event_start_msg", r"", r"required", r"'auth[tT]oken' .*",
     "requires authtoken, which is only there if one is configured, and is called authToken"),
    (r"event_start_msg", r"info\.process", r"required", r"'(user|group)name' .*",
     "requires username and groupname, which some ids do not have"),
    (r"event_start_msg", r"info\.configuration\.current\.(event|metric)\.watch\.\d+\.type", r"const", r".*",
     "gives each kind of watch a fixed place in the list, which only holds those that are enabled"),
    (r"event_start_msg", r"info\.configuration\.current\.(event|metric)\.transport\.type", r"enum", r"'journal' is not .*",
     "knows no journal, which is where a session's events and metrics go"),
]


def read(path):
    """JSON; the reference's definitions/data.schema.json has a comma too many, which JSON does not allow."""
    return json.loads(re.sub(r",(\s*[}\]])", r"\1", path.read_text()))


def jsonschema_module():
    try:
        import jsonschema
    except ImportError:
        check(False, "python3-jsonschema: not installed (install_build_tools.sh installs what tests need)")
    return jsonschema


def validators():
    jsonschema = jsonschema_module()
    if not SCHEMAS.is_dir():
        raise Skip(f"no {SCHEMAS}")
    documents = {p.name: read(p) for p in SCHEMAS.glob("*.json")}
    base = "https://appscope.dev/docs/schemas/"
    store = {base + name: d for name, d in documents.items()}
    for p in (SCHEMAS / "definitions").glob("*.json"):
        store[base + "definitions/" + p.name] = read(p)
    found = {}
    for name, document in documents.items():
        resolver = jsonschema.RefResolver(base + name, document, store)
        found[name.removesuffix(".schema.json")] = jsonschema.Draft7Validator(document, resolver=resolver)
    return found


def schema_of(record):
    """Name of the schema of a line; None for what 1.4 did not have."""
    if record.get("type") == "metric":
        return "metric_" + record["body"]["_metric"].replace(".", "_")
    if record.get("type") != "evt":
        return "event_start_msg" if "format" in record else None
    body = record["body"]
    if body["sourcetype"] in ("console", "file"):
        return "event_" + body["sourcetype"]
    return "event_" + body["source"].replace(".", "_")


def excused(name, error):
    path = ".".join(str(p) for p in error.absolute_path)
    return any(re.fullmatch(s, name) and re.fullmatch(p, path) and re.fullmatch(k, error.validator)
               and re.fullmatch(m, error.message, re.S) for s, p, k, m, _ in WRONG)


def validate(records):
    """Validates; returns how many of each schema were seen."""
    known = validators()
    seen, problems = Counter(), {}
    for record in records:
        name = schema_of(record)
        if name not in known:
            seen[f"({name})"] += 1
            continue
        seen[name] += 1
        for error in known[name].iter_errors(record):
            if excused(name, error):
                continue
            where = ".".join(str(p) for p in error.absolute_path)
            problems.setdefault((name, where, error.validator, error.message[:200]), json.dumps(record)[:700])
    check(not problems, f"{len(problems)} kinds of violation",
          *[f"{name}: {where}: {message}\n         {line}" for (name, where, _, message), line in list(problems.items())[:15]])
    return seen


WORK = ("cat /etc/passwd >copy; ls -l copy; mkdir d; mv copy d/moved; chmod 600 d/moved; rm d/moved; rmdir d; cat nothing; "
        "echo line >some.log; grep x /etc/hosts; find . >/dev/null; head -c 10 /dev/zero | wc -c; sleep 2.5")


def observe(ctx, flags=(), **env):
    program = ctx.compile("programs/events_sockets.c", "glibc-O2")
    result = ctx.scoped(["/bin/sh", "-c", WORK + "; exec " + str(program)], flags,
                        env=ctx.env(EXPECT=ctx.dir / "expect", **env))
    result.session.wait_end()
    return result.session


def needs(seen, *names):
    missing = [n for n in names if not seen[n]]
    check(not missing, f"nothing of {', '.join(missing)}", dict(seen))


@test("schema/events")
def events(ctx):
    validators()
    seen = validate(observe(ctx).raw("events.json"))
    needs(seen, "event_fs_open", "event_fs_close", "event_fs_delete", "event_net_open", "event_net_close", "event_console",
          "event_file")


@test("schema/metrics")
def metrics(ctx):
    """Summaries, at the default verbosity; of a process that lives longer than a period, too."""
    validators()
    seen = validate(observe(ctx, SCOPE_SUMMARY_PERIOD="1").raw("metrics.json"))
    needs(seen, "metric_fs_open", "metric_fs_close", "metric_fs_read", "metric_fs_write", "metric_fs_stat",
          "metric_fs_error", "metric_net_rx", "metric_net_tx", "metric_net_open", "metric_net_close", "metric_proc_start",
          "metric_proc_cpu", "metric_proc_mem", "metric_proc_fd", "metric_proc_thread")


@test("schema/metrics-per-operation")
def per_operation(ctx):
    """One metric per operation, with all tags, at verbosity 9."""
    validators()
    seen = validate(observe(ctx, ["-v", "9"]).raw("metrics.json"))
    needs(seen, "metric_fs_open", "metric_fs_read", "metric_fs_write", "metric_net_rx", "metric_net_tx")


@test("schema/raw-metric-events")
def raw_metric_events(ctx):
    """Metric samples sent as events (SCOPE_EVENT_METRIC)."""
    validators()
    seen = validate(observe(ctx, SCOPE_EVENT_METRIC="true").raw("events.json"))
    needs(seen, "event_fs_read", "event_fs_write", "event_fs_stat", "event_net_rx", "event_net_tx", "event_fs_error")


HTTP = """
import http.client, http.server, socket, threading
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
c = http.client.HTTPConnection(*server.server_address)
c.request("POST", "/a?b", b"body", {"User-Agent": "test", "X-Forwarded-For": "10.0.0.1", "X-AppScope": "x"})
c.getresponse().read()
query = bytes.fromhex("123401000001000000000000") + b"\\1h\\4test\\0\\0\\1\\0\\1"
answer = query[:2] + bytes.fromhex("81800001000100000000") + query[12:] + bytes.fromhex("c00c00010001000000 3c0004c0000201")
a, b = socket.socketpair(type=socket.SOCK_DGRAM)
a.send(query); b.recv(99); b.send(answer); a.recv(99)
"""


@test("schema/traffic")
def traffic(ctx):
    """HTTP of both sides, DNS, and what was recognised; sums of HTTP by target, DNS one by one."""
    validators()
    result = ctx.scoped(["/usr/bin/python3", "-c", HTTP], ["-v", "9"], check_code=0)
    result.session.wait_end()
    seen = validate(result.session.raw("events.json"))
    needs(seen, "event_http_req", "event_http_resp", "event_net_app", "event_dns_req", "event_dns_resp")
    seen = validate(result.session.raw("metrics.json"))
    needs(seen, "metric_http_req", "metric_http_duration_server", "metric_http_duration_client", "metric_http_req_content_length",
          "metric_http_resp_content_length", "metric_dns_req")


@test("schema/up-to-date")
def up_to_date(ctx):
    """docs/schemas is what dev/schemas writes: the tables in the code, and what it says itself."""
    result = ctx.run([TOP / "dev/schemas", "--check"])
    check(result.code == 0, result.out.decode(), result.err.decode())


def changed(record):
    """The record with one thing wrong, in each way that there is: (what, record)."""
    def at(path):
        there = copy.deepcopy(record)
        inner = there
        for name in path:
            inner = inner[name]
        return there, inner

    paths = [["body"], ["body", "data"]] if isinstance(record["body"].get("data"), dict) else [["body"]]
    for path in paths:
        there, inner = at(path)
        inner["_new"] = 1
        yield f"{path} has a member more", there
        for name in inner.keys() - {"_new"}:
            there, inner = at(path)
            inner[name] = [None]
            yield f"{path} {name} is of another type", there
            there, inner = at(path)
            del inner[name]
            yield f"{path} lacks {name}", there
            if isinstance(inner.get(name), str):
                there, inner = at(path)
                inner[name] = "?"
                yield f"{path} {name} has another value", there


@test("schema/validators-agree")
def validators_agree(ctx):
    """What the quick validator says of a record, of each kind, and of the same with something wrong, jsonschema says, too;
    and it does find something."""
    jsonschema = jsonschema_module()
    slow = {}
    for path in schemas.SCHEMAS.glob("*.schema.json"):
        document = json.loads(path.read_text())
        jsonschema.Draft7Validator.check_schema(document)
        slow[path.name.removesuffix(".schema.json")] = jsonschema.Draft7Validator(document)
    session = observe(ctx, ["--syscalls", "-v", "9"], SCOPE_CONFIG_EVENT="true", SCOPE_EVENT_METRIC="true")
    seen, refused = set(), 0
    for record in [*session.raw("events.json"), *session.raw("metrics.json")]:
        name = schemas.name_of(record)
        if name in seen:
            continue
        seen.add(name)
        for what, other in [("as it is", record), *(changed(record) if "body" in record else [])]:
            # Without the rules that are the quick one's only.
            quick = schemas.problem(json.dumps(other).encode(), tags=None)
            if schemas.name_of(other) != name:
                continue
            equal(quick is None, slow[name].is_valid(other), f"{name}, {what}: {quick}; valid")
            refused += quick is not None
    check(len(seen) > 30 and refused > 500, "few were seen, or refused", len(seen), refused)


@test("schema/refused")
def refused(ctx):
    """What the hook of all tests finds: an unknown field, an unknown value, a custom tag that nobody set, a key twice."""
    result = ctx.scoped(["/bin/sleep", "0.01"], check_code=0)  # so that its duration isn't 0
    result.session.wait_end()
    lines = result.session.lines("events.json")
    exit_ = next(line for line in lines if b'"proc.exit"' in line)
    equal(schemas.problem(exit_), None, "a good one")
    for old, new in ((b'"duration":', b'"new":1,"duration":'), (b'"proc.exit"', b'"proc.exits"'), (b'"data":', b'"team":"blue","data":'),
                     (b'"duration":', b'"duration":-'), (b'"duration":', b'"duration":1,"duration":'), (b'"exit_code":0', b'"exit_code":"0"')):
        check(exit_.count(old) == 1, "bad test", exit_, old)
        wrong = schemas.problem(exit_.replace(old, new))
        check(wrong, f"{new} was not found")
    equal(schemas.problem(exit_.replace(b'"data":', b'"team":"blue","data":'), ["team"]), None, "a custom tag")


@test("schema/start-message")
def start_message(ctx):
    validators()
    path = ctx.dir / "told"
    observe(ctx, ["-e", f"file://{path}"], SCOPE_CONFIG_EVENT="true")
    seen = validate([json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line])
    needs(seen, "event_start_msg")
