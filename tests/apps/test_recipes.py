# SPDX-License-Identifier: Apache-2.0
"""docs/recipes: what a page says is run as it stands there, but for ports, paths and what is observed. Where the receiver is
packaged its configuration is used, too; where it isn't, the command has to reach something that speaks its protocol.
"""

import collections
import http.client
import json
import re
import shlex
import socket
import threading
import urllib.parse

from foreign import program
from needed import needed
from otlp import Receiver
from scopetest import TOP, Session, add_test, check, equal, free_port, test
from traffic import listening, nothing_lost, running
from web import Nginx

yaml = needed("yaml")

RECIPES = TOP / "docs/recipes"
PAGES = sorted(p.name for p in RECIPES.glob("*.md"))
COUNT = "scope_http_server_request_duration_seconds_count"
# Ports of the pages, and who listens there in these tests.
HTTP_PORTS, GRPC_PORTS = ("4318", "3100", "9090", "8428", "9428", "10428"), ("4317",)
TCP_PORTS, UDP_PORTS = ("9000", "5170", "10514"), ("8125",)


def block(page, name):
    """The block of the page that is the content of a file, by the end of its name."""
    found = re.findall(rf"^`[^`]*{re.escape(name)}`[^\n]*:\n\n```\w*\n(.*?)^```$", (RECIPES / page).read_text(), re.M | re.S)
    equal(len(found), 1, f"blocks of {name} in {page}")
    return found[0]


def commands(page):
    """The commands of a page that run scope."""
    return [line.strip() for line in (RECIPES / page).read_text().splitlines()
            if line.startswith("    ") and re.match(r"(\w+=\S+ )*scope run ", line.strip())]


def replaced(text, **changes):
    for old, new in changes.items():
        check(old in text, f"the page doesn't say {old}", text)
        text = text.replace(old, str(new))
    return text


def get(port, path, method="GET", body=None):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    c.request(method, path, body)
    r = c.getresponse()
    text = r.read().decode()
    c.close()
    return r.status, text


def scraped(ctx, page, requests=200):
    """An nginx that is observed as the page says, with a port for scrapes that is free, and has answered some requests."""
    command = next(c for c in commands(page) if "prometheus://" in c)
    flags = shlex.split(command.replace(":9109", ":0").split(" nginx ")[0])[2:]
    web = Nginx(ctx)
    with web.running(ctx.env(SCOPE_SUMMARY_PERIOD=1), flags) as s:
        metrics = ctx.wait_for(lambda: int(s.meta["metric_dest"].rsplit(":", 1)[1]), "where metrics can be fetched", 60)
        web.ask(range(requests))
        yield web, s, metrics


class Store:
    """What answers queries as a Prometheus does."""

    def __init__(self, ctx, argv, port):
        self.ctx, self.port = ctx, port
        with open(ctx.dir / "store.out", "wb") as out:
            self.process = ctx.start(argv, stdout=out, stderr=out)
        ctx.wait_for(lambda: listening(port), f"{argv[0]} listens", 60, 0.1)

    def ask(self, query):
        """(status, labels and value of each series)"""
        status, text = get(self.port, "/api/v1/query?" + urllib.parse.urlencode({"query": query}))
        return status, [(r["metric"], float(r["value"][1])) for r in json.loads(text)["data"]["result"]] if status == 200 else text

    def total(self, query):
        status, found = self.ask(query)
        return sum(v for _, v in found) if status == 200 else 0


def prometheus(ctx, metrics):
    port, d = free_port(), ctx.fresh("store")
    (d / "prometheus.yml").write_text(replaced(block("prometheus.md", "prometheus.yml"), **{"9109": metrics, "5s": "1s"}))
    return Store(ctx, [ctx.tool("prometheus"), f"--config.file={d}/prometheus.yml", f"--storage.tsdb.path={d}/data",
                       f"--web.listen-address=127.0.0.1:{port}"], port)


def victoria(ctx, metrics):
    port, d = free_port(), ctx.fresh("store")
    (d / "prometheus.yml").write_text(replaced(block("victoriametrics.md", "prometheus.yml"), **{"9109": metrics, "5s": "1s"}))
    return Store(ctx, [ctx.tool("victoria-metrics"), f"-promscrape.config={d}/prometheus.yml", f"-storageDataPath={d}/data",
                       f"-httpListenAddr=127.0.0.1:{port}", "-search.latencyOffset=0s"], port)


def queries(ctx):
    """Each expression of the dashboard, with variables as Grafana sets them."""
    board = json.loads((RECIPES / "grafana-appscope.json").read_text())
    found = [t["expr"] for p in board["panels"] for t in p.get("targets", [])]
    for old, new in (("$__rate_interval", "1m"), ("$__range", "1h"), ("$proc", ".*"), ("$pid", ".*")):
        found = [e.replace(old, new) for e in found]
    check(len(found) > 30 and not any("$" in e for e in found), "expressions", found)
    return found


def with_store(ctx, page, start):
    """The page's configuration makes the store scrape; it has what nginx was asked, and understands the dashboard."""
    for web, session, metrics in scraped(ctx, page):
        store = start(ctx, metrics)
        ctx.wait_for(lambda: store.total(COUNT) == 200, "all requests", 60, 0.2)
        logged = collections.Counter(str(r[2]) for r in web.log())
        _, by_status = store.ask(f"sum by (http_response_status_code) ({COUNT})")
        equal({labels["http_response_status_code"]: v for labels, v in by_status}, dict(logged), "requests by status")
        equal(store.total('up{job="appscope"}'), 1, "the job")
        # a worker of nginx that has had no request yet begins a series, of which the first sample is no increase
        ctx.wait_for(lambda: web.ask(range(200, 205)) or store.total(f"sum(rate({COUNT}[1m]))") > 0, "a rate", 60, 0.5)
        empty = []
        for query in queries(ctx) + re.findall(r"^\| `(.*?)` \|", (RECIPES / "prometheus.md").read_text(), re.M):
            status, found = store.ask(query)
            equal((status, found if status != 200 else None), (200, None), query)
            if not found:
                empty.append(query)
        # what there was nothing of: clients, DNS, failures, summaries of what ended
        check(not any("scope_http_server" in q or "scope_process_" in q or "scope_build_info" in q for q in empty), "no values", empty)
        nothing_lost(session)
        store.process.kill()  # nothing of it is needed any more
        store.process.wait(60)


add_test("apps", "recipes-prometheus", lambda ctx: with_store(ctx, "prometheus.md", prometheus), timeout=120)
add_test("apps", "recipes-victoriametrics", lambda ctx: with_store(ctx, "victoriametrics.md", victoria), timeout=120)


def scope_counts(port):
    return sum(map(int, re.findall(rf"^{COUNT}{{.*}} (\d+)$", get(port, "/metrics")[1], re.M)))


@test("recipes-pushgateway", timeout=90)
def pushgateway(ctx):
    """The Pushgateway takes the same text, by the page's command."""
    port = free_port()
    lines = (RECIPES / "prometheus.md").read_text().splitlines()
    command = next(line.strip() for line in lines if "/metrics/job/appscope" in line)
    for web, session, metrics in scraped(ctx, "prometheus.md", 50):
        with running(ctx, [ctx.tool("prometheus-pushgateway"), f"--web.listen-address=127.0.0.1:{port}"], port):
            ctx.wait_for(lambda m=metrics: scope_counts(m) == 50, "all requests in a scrape", 60)
            line = replaced(command, **{"9109": metrics, "9091": port})
            r = ctx.run(["sh", "-c", line.replace("--data-binary", "-w '%{http_code}' --data-binary")], check_code=0)
            equal(r.out, b"200", "its answer")
            text = get(port, "/metrics")[1]
            counted = re.findall(rf'^{COUNT}{{.*job="appscope".*}} (\d+)$', text, re.M)
            equal(sum(map(int, counted)), len(web.log()), f"requests in {text[-5000:]}")
        nothing_lost(session)


@test("recipes-rsyslog", timeout=90)
def rsyslog(ctx):
    """rsyslog with the page's configuration writes a line for each event."""
    d, port, web = ctx.fresh("rsyslog"), free_port(), Nginx(ctx)
    text = replaced(block("rsyslog.md", "30-appscope.conf"), **{"10514": port, "/var/log/appscope.log": d / "appscope.log"})
    check('global(maxMessageSize="64k")' in (RECIPES / "rsyslog.md").read_text(), "the size of messages")
    (d / "rsyslog.conf").write_text(f'global(maxMessageSize="64k" workDirectory="{d}")\n{text}')
    ctx.run([ctx.tool("rsyslogd"), "-N1", "-f", d / "rsyslog.conf", "-i", d / "pid"], check_code=0)
    with web.running(None, None), running(ctx, [ctx.tool("rsyslogd"), "-n", "-f", d / "rsyslog.conf", "-i", d / "pid"], port,
                                          output="rsyslog.out"):
        command = replaced(commands("rsyslog.md")[0], **{"10514": port, "http://127.0.0.1/": f"http://127.0.0.1:{web.port}/small"})
        session = observed(ctx, command)
        session.wait_end(60)
        lines = ctx.wait_for(lambda: written(d / "appscope.log"), "the last event", 60)
    sources = collections.Counter()
    for line in lines:
        found = re.fullmatch(r"(\S+) curl\[(\d+)\] (\S+) (\{.*\})", line)
        check(found, "a line", line)
        sources[found.group(3)] += 1
        if found.group(3) == "http.resp":
            equal(json.loads(found.group(4))["http_status_code"], 200, "the answer")
    equal((sources["http.req"], sources["http.resp"], sources["proc.start"], sources["proc.exit"]), (1, 1, 1, 1), "events")
    check(sources["fs.open"] and sources["fs.close"], "files", sources)
    nothing_lost(session)


def written(path):
    lines = path.read_text().splitlines() if path.exists() else []
    return lines if any(" proc.exit " in line for line in lines) else None


def observed(ctx, command):
    """Runs a command of a page; its session."""
    before = set(ctx.sessions())
    check(re.search(r"\bscope run ", command), "no command", command)
    r = ctx.run(["sh", "-c", re.sub(r"\bscope run ", f"{shlex.quote(ctx.scope)} run ", command, count=1)], check_code=0)
    new = set(ctx.sessions()) - before
    check(len(new) == 1, "no session", r.describe())
    return Session(ctx, new.pop())


class Lines:
    """Listens for TCP and UDP on one port, and keeps what comes."""

    def __init__(self):
        self.tcp, self.udp, self.port = socket.socket(), socket.socket(type=socket.SOCK_DGRAM), free_port()
        self.streams, self.datagrams = [], []
        for s in (self.tcp, self.udp):
            s.bind(("127.0.0.1", self.port))
        self.tcp.listen()
        for target in (self.accept, self.receive):
            threading.Thread(target=target, daemon=True).start()

    def accept(self):
        while True:
            try:
                c = self.tcp.accept()[0]
            except OSError:
                return
            self.streams.append(b"")
            while piece := c.recv(65536):
                self.streams[-1] += piece
            c.close()

    def receive(self):
        while True:
            try:
                self.datagrams.append(self.udp.recv(65536))
            except OSError:
                return

    def close(self):
        for s in (self.tcp, self.udp):
            s.shutdown(socket.SHUT_RDWR) if s is self.tcp else s.close()
        self.tcp.close()

    def sources(self):
        return {json.loads(line)["body"]["source"] for s in self.streams for line in s.splitlines() if b'"body"' in line}


def paths(command):
    """Where the requests of OTLP have to come, by the command: signal -> path."""
    words = dict(w.split("=", 1) for w in shlex.split(command.split("scope run ")[0]))
    general = re.search(r"--otlp \S+", command) or "OTEL_EXPORTER_OTLP_ENDPOINT" in words
    want = {}
    for signal in ("traces", "metrics", "logs"):
        url = words.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
        if url or general:
            want[signal] = urllib.parse.urlsplit(url).path if url else f"/v1/{signal}"
    grpc = "grpc://" in command or "grpc" in (words.get("OTEL_EXPORTER_OTLP_PROTOCOL"), words.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"))
    return want, grpc, words


def with_commands(ctx, page):
    """Each command of the page gets to where it shall."""
    web, over_http, over_grpc, lines = Nginx(ctx), Receiver(ctx, "http"), Receiver(ctx, "grpc"), Lines()
    with web.running(None, None):
        for command in commands(page):
            if "prometheus://" in command:
                continue
            ports = {p: r.port for names, r in ((HTTP_PORTS, over_http), (GRPC_PORTS, over_grpc), (TCP_PORTS + UDP_PORTS, lines))
                     for p in names}
            line = re.sub(r"127\.0\.0\.1:(\d+)", lambda m, p=ports: f"127.0.0.1:{p[m.group(1)]}", command)
            line = replaced(line, **{"http://127.0.0.1/": f"http://127.0.0.1:{web.port}/small"})
            before = (len(over_http.requests()), len(over_grpc.requests()))
            session = observed(ctx, line)
            session.wait_end(60)
            nothing_lost(session)
            want, grpc, words = paths(command)
            if grpc:
                got = {r["signal"]: "" for r in over_grpc.requests()[before[1]:]}
                # a tenth of the traces may be none
                check(set(got) == set(want) or words.get("OTEL_TRACES_SAMPLER_ARG"), command, got)
                continue
            requests = over_http.requests()[before[0]:]
            equal({r["signal"]: r["url"] for r in requests}, want, command)
            for header in filter(None, words.get("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "").split(",")):
                name, value = header.split("=")
                equal({r["headers"].get(name.lower()) for r in requests}, {value}, command)
            if "OTEL_SERVICE_NAME" in words:
                equal({s["resource"]["service.name"] for s in over_http.spans()}, {"shop", "curl"}, command)
            if " -e tcp:" in command:
                check({"http.resp", "proc.exit"} <= lines.sources(), command, lines.sources())
            if " -m udp:" in command:
                check(any(d.startswith(b"net.tx:") and b"|#" in d for d in b"\n".join(lines.datagrams).split(b"\n")), command,
                      lines.datagrams)
    lines.close()


for _page in PAGES:
    if [c for c in commands(_page) if "prometheus://" not in c]:
        add_test("apps", f"recipes-commands-{_page[:-3]}", lambda ctx, page=_page: with_commands(ctx, page), timeout=90)


@test("recipes-pages", timeout=30)
def pages(ctx):
    """Each page is in the index, each link has its end, and what is to be YAML is."""
    index = (RECIPES / "README.md").read_text()
    equal(set(re.findall(r"\]\(([\w-]+\.md)\)", index)), set(PAGES) - {"README.md"}, "pages of the index")
    for page in PAGES:
        text = (RECIPES / page).read_text()
        for link in re.findall(r"\]\(([^)#]*)", text):
            check("://" in link or (RECIPES / link).exists() or not link, f"{page} links to {link}")
        for content in re.findall(r"^```yaml\n(.*?)^```$", text, re.M | re.S):
            check(isinstance(yaml.safe_load(content), dict), f"{page}: not a map of YAML", content)
        if page != "README.md":
            for part in ("Install", "Configure", "Run", "What one sees"):
                check(f"\n## {part}\n" in text, f"{page} has no part {part}")
    ctx.valid = False


TYPES = """
import type {{ Dashboard }} from "{types}/index";
import type {{ Options as Timeseries }} from "{types}/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";
import type {{ FieldConfig as Fields }} from "{types}/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";
import type {{ Options as Stat }} from "{types}/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type {{ Options as Table }} from "{types}/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen";
// In JSON the constants of an enum are the texts that they stand for.
type Plain<T> = T extends string ? `${{T}}` : T extends (infer U)[] ? Plain<U>[] : T extends object ? {{ [K in keyof T]: Plain<T[K]> }} : T;
type Options = {{ timeseries: Timeseries; stat: Stat; table: Table }};
const board: Plain<Dashboard> = {board};
const options: {{ [K in keyof Options]: Partial<Plain<Options[K]>>[] }} = {options};
const fields: Plain<Fields>[] = {fields};
export {{ board, options, fields }};
"""


@test("recipes-dashboard", timeout=60)
def dashboard(ctx):
    """The dashboard has the types that Grafana's own package declares; its queries use names and labels that exist."""
    board = json.loads((RECIPES / "grafana-appscope.json").read_text())
    types = program("node_modules/@grafana/schema", "dist/types/index.d.ts").parent
    panels = [p for p in board["panels"] if p["type"] != "row"]
    options = {kind: [p["options"] for p in panels if p["type"] == kind] for kind in ("timeseries", "stat", "table")}
    equal(sum(map(len, options.values())), len(panels), "panels")
    fields = [p["fieldConfig"]["defaults"]["custom"] for p in panels if p["type"] == "timeseries"]
    tsgo = [program("tsgo-go1.26", "lib/tsgo"), "--noEmit", "--strict", "--skipLibCheck", "--target", "esnext", "--module", "esnext",
            "--moduleResolution", "bundler"]

    def typed(name, **what):
        (ctx.dir / name).write_text(TYPES.format(types=types, **{k: json.dumps(v) for k, v in what.items()}))
        return ctx.run([*tsgo, ctx.dir / name])
    r = typed("board.ts", board=board, options=options, fields=fields)
    equal(r.code, 0, f"what is wrong with types: {r.out.decode()[:3000]}")
    r = typed("wrong.ts", board={**board, "grpahTooltip": 1}, options={**options, "stat": [{"graphMode": "nonsense"}]},
              fields=[{"lineWidth": "1"}])
    equal(re.findall(r"error TS(\d+)", r.out.decode()), ["2353", "2322", "2322"], f"the types check nothing: {r.describe()}")
    taken = set()
    for p in board["panels"]:
        g = p["gridPos"]
        cells = {(x, y) for x in range(g["x"], g["x"] + g["w"]) for y in range(g["y"], g["y"] + g["h"])}
        check(not cells & taken and g["x"] + g["w"] <= 24, "a panel over another", p["title"])
        taken |= cells
    equal(len({p["id"] for p in board["panels"]}), len(board["panels"]), "ids of panels")
    known, labels = names()
    used = set()
    for query in queries(ctx):
        for name in re.findall(r"\b(?:scope_\w+|target_info)\b", query):
            check(name in known, f"no such series: {name}", query)
            used.add(re.sub("_(bucket|sum|count)$", "", name))
        for group in re.findall(r"\b(?:by|on|group_left) \(([^)]*)\)", query) + re.findall(r"(\w+)=~?\"", query):
            for label in re.split(", ?", group):
                check(label in labels, f"no such label: {label}", query)
    missing = {re.sub("_(bucket|sum|count)$", "", n) for n in known} - used
    equal(missing, set(), "series that no panel shows")
    for v in board["templating"]["list"][1:]:
        name, label = re.fullmatch(r"label_values\((\w+)(?:\{.*\})?, (\w+)\)", v["query"]["query"]).groups()
        check(name in known and label in labels, "a variable", v)


def names():
    """Series and labels that docs/prometheus.md tells of."""
    known, labels = set(), {"le", "proc", "pid", "job", "instance"}
    for name, kind, more in re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \|", (TOP / "docs/prometheus.md").read_text(), re.M):
        ends = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}.get(kind, ("",))
        known |= {name + end for end in ends}
        labels |= set(re.findall(r"`(\w+)`", more))
    check(len(known) > 30, "names in docs/prometheus.md", known)
    return known, labels
