// SPDX-License-Identifier: Apache-2.0
//
// A receiver of OTLP that knows nothing of ours: what comes is decoded by the classes that OpenTelemetry generates for its
// own JavaScript exporter, over http or gRPC (@grpc/grpc-js), and written as one line of JSON for each request.
//
//   otlp_receiver.js '{"protocol": "http", "port": 4318, "file": "got.ndjson"}'
//
// protocol  "http", "grpc"; "http2": gRPC by node's own HTTP/2, for what grpc-js doesn't let a server do wrong
// tls       {"cert", "key", "ca"}: files; with a ca, clients must have a certificate of it
// brief     true: how many items came, and how many spans of each kind, but not what they are
// answers   what the requests get, one after the other, and the last one all that follow. Default: "ok"
//   ok, slow:MS        takes it, at once or MS milliseconds later
//   partial:N          takes all but N items
//   NUMBER[:SECONDS]   that HTTP or gRPC status, which refuses it but for 2xx; SECONDS: of Retry-After or RetryInfo
//   close              reads a piece of the body and closes the connection
//   truncated          begins an answer that says it was taken, and closes in the middle
//   huge               an answer of 100 MB
//   garbage            takes it, with an answer that isn't protobuf
//   hang               never answers
//   goaway             http2: GOAWAY that disowns the request, as a server does that goes down
//
// Fields that the classes don't know, and strings that aren't UTF-8, are counted. "ready" is printed when it listens.
'use strict';
const fs = require('fs');
const http = require('http');
const http2 = require('http2');
const https = require('https');
const path = require('path');
const zlib = require('zlib');
const { isUtf8 } = require('buffer');
const { BufferReader } = require('protobufjs/minimal');

const packages = process.env.NODE_PATH;
const { opentelemetry } = require(path.join(packages, '@opentelemetry/otlp-transformer/build/src/generated/root'));
const options = JSON.parse(process.argv[2]);
const HUGE = 100 << 20;

let unknown = 0, badText = 0;
const { skipType, string } = BufferReader.prototype;
BufferReader.prototype.skipType = function skip(type) {
    unknown++;
    return skipType.call(this, type);
};
BufferReader.prototype.string = function checked() {
    const at = this.pos, length = this.uint32();
    if (!isUtf8(this.buf.subarray(this.pos, this.pos + length)))
        badText++;
    this.pos = at;
    return string.call(this);
};

const collector = opentelemetry.proto.collector;
const signals = {
    traces: { service: 'trace.v1.TraceService', what: 'Trace', rejected: 'rejectedSpans',
              lists: ['resourceSpans', 'scopeSpans', 'spans'] },
    metrics: { service: 'metrics.v1.MetricsService', what: 'Metrics', rejected: 'rejectedDataPoints',
               lists: ['resourceMetrics', 'scopeMetrics', 'metrics'] },
    logs: { service: 'logs.v1.LogsService', what: 'Logs', rejected: 'rejectedLogRecords',
            lists: ['resourceLogs', 'scopeLogs', 'logRecords'] },
};
for (const signal of Object.values(signals)) {
    const room = collector[signal.service.split('.')[0]].v1;
    signal.Request = room[`Export${signal.what}ServiceRequest`];
    signal.Response = room[`Export${signal.what}ServiceResponse`];
    signal.path = `/opentelemetry.proto.collector.${signal.service}/Export`;
}

const out = fs.openSync(options.file, 'a');
const answers = options.answers || ['ok'];
let asked = 0;

function nextAnswer() {
    const [what, number] = answers[Math.min(asked++, answers.length - 1)].split(':');
    return { what, number: Number(number || 0) };
}

function itemsOf(signal, request) {
    const [one, two, three] = signal.lists;
    return (request[one] || []).flatMap((r) => (r[two] || []).flatMap((s) => s[three] || []));
}

function pointsOf(metric) {
    const data = metric.gauge || metric.sum || metric.histogram || metric.exponentialHistogram || metric.summary || {};
    return (data.dataPoints || []).length;
}

function write(name, answer, headers, body, more) {
    const line = { signal: name, answer: answer.what, at: Date.now(), bytes: body ? body.length : 0, headers, ...more };
    if (body) {
        const signal = signals[name];
        unknown = badText = 0;
        try {
            const message = signal.Request.decode(body);
            line.wrong = signal.Request.verify(message);
            const request = signal.Request.toObject(message, { longs: String, bytes: String, json: true });
            const items = itemsOf(signal, request);
            line.items = name === 'metrics' ? items.reduce((sum, m) => sum + pointsOf(m), 0) : items.length;
            if (options.brief) {
                line.kinds = {};
                for (const item of items)
                    line.kinds[item.kind || 0] = (line.kinds[item.kind || 0] || 0) + 1;
            } else {
                line.request = request;
            }
        } catch (e) {
            line.wrong = String(e);
        }
        line.unknown = unknown;
        line.badText = badText;
    }
    fs.writeSync(out, JSON.stringify(line) + '\n');
}

function response(signal, answer) {
    const message = answer.what === 'partial' ?
        { partialSuccess: { [signal.rejected]: answer.number, errorMessage: 'some were not to our taste' } } : {};
    if (answer.what === 'garbage')
        return Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff]);
    if (answer.what === 'huge')
        return Buffer.alloc(HUGE, 0x0a);
    return Buffer.from(signal.Response.encode(message).finish());
}

// google.rpc.Status with a google.rpc.RetryInfo, by hand: this package has no classes of them.
function retryInfo(code, seconds) {
    const type = Buffer.from('type.googleapis.com/google.rpc.RetryInfo');
    const info = Buffer.from([0x0a, 2, 0x08, seconds]);
    const any = Buffer.concat([Buffer.from([0x0a, type.length]), type, Buffer.from([0x12, info.length]), info]);
    return Buffer.concat([Buffer.from([0x08, code, 0x1a, any.length]), any]);
}

function tlsOptions() {
    const { cert, key, ca } = options.tls;
    return { cert: fs.readFileSync(cert), key: fs.readFileSync(key),
             ...(ca && { ca: fs.readFileSync(ca), requestCert: true, rejectUnauthorized: true }) };
}

function receiveHttp(request, reply) {
    const answer = nextAnswer();
    const name = path.basename(request.url.split('?')[0]);
    const signal = signals[name];
    const pieces = [];
    request.on('error', () => {});
    reply.on('error', () => {});
    if (answer.what === 'close') {
        request.once('data', () => {
            write(name, answer, request.headers);
            request.socket.destroy();
        });
        return;
    }
    request.on('data', (piece) => pieces.push(piece));
    request.on('end', () => {
        let body = Buffer.concat(pieces);
        const sent = body.length;
        if (!signal || request.method !== 'POST' || request.headers['content-type'] !== 'application/x-protobuf') {
            write(request.url, { what: 'no such thing' }, request.headers);
            reply.writeHead(signal ? 415 : 404).end();
            return;
        }
        if (request.headers['content-encoding'] === 'gzip')
            body = zlib.gunzipSync(body);
        write(name, answer, request.headers, body, { sent, url: request.url });
        const status = Number(answer.what);
        if (answer.what === 'hang')
            return;
        if (status >= 300) {
            reply.writeHead(status, answer.number ? { 'Retry-After': answer.number } : {}).end('try again');
            return;
        }
        const content = response(signal, answer);
        const head = { 'Content-Type': 'application/x-protobuf', 'Content-Length': content.length };
        if (answer.what === 'truncated') {
            reply.writeHead(200, { ...head, 'Content-Length': 1000 });
            reply.write(Buffer.alloc(10));
            setTimeout(() => request.socket.destroy(), 50);
            return;
        }
        setTimeout(() => reply.writeHead(status || 200, head).end(content), answer.what === 'slow' ? answer.number : 0);
    });
}

function serveHttp() {
    const server = options.tls ? https.createServer(tlsOptions(), receiveHttp) : http.createServer(receiveHttp);
    server.keepAliveTimeout = 60000;
    server.listen(options.port, '127.0.0.1', () => console.log('ready'));
}

function serveGrpc() {
    const grpc = require('@grpc/grpc-js');
    const server = new grpc.Server({ 'grpc.max_receive_message_length': -1, 'grpc.max_send_message_length': -1 });
    for (const [name, signal] of Object.entries(signals)) {
        server.addService({ Export: {
            path: signal.path, requestStream: false, responseStream: false,
            requestSerialize: (b) => b, requestDeserialize: (b) => b, responseSerialize: (b) => b, responseDeserialize: (b) => b,
        } }, { Export: (call, done) => {
            const answer = nextAnswer();
            write(name, answer, call.metadata.getMap(), call.request);
            const code = Number(answer.what);
            if (answer.what === 'hang')
                return;
            if (code) {
                const metadata = new grpc.Metadata();
                if (answer.number)
                    metadata.set('grpc-status-details-bin', retryInfo(code, answer.number));
                done({ code, details: 'try again', metadata });
                return;
            }
            setTimeout(() => done(null, response(signal, answer)), answer.what === 'slow' ? answer.number : 0);
        } });
    }
    let credentials = grpc.ServerCredentials.createInsecure();
    if (options.tls) {
        const { cert, key, ca } = tlsOptions();
        credentials = grpc.ServerCredentials.createSsl(ca || null, [{ cert_chain: cert, private_key: key }], Boolean(ca));
    }
    server.bindAsync(`127.0.0.1:${options.port}`, credentials, (error) => {
        if (error)
            throw error;
        console.log('ready');
    });
}

// Messages are taken whole and uncompressed: this is for what goes wrong with the connection.
function serveHttp2() {
    const server = options.tls ? http2.createSecureServer(tlsOptions()) : http2.createServer();
    server.on('session', (session) => session.on('error', () => {}));
    server.on('stream', (stream, headers) => {
        const answer = nextAnswer();
        const [name, signal] = Object.entries(signals).find(([, s]) => s.path === headers[':path']) || [];
        const pieces = [];
        stream.on('error', () => {});
        stream.on('data', (piece) => {
            pieces.push(piece);
            if (answer.what === 'close') {
                write(name, answer, headers);
                stream.session.destroy();
            }
        });
        stream.on('end', () => {
            const body = Buffer.concat(pieces);
            if (stream.destroyed || answer.what === 'close')
                return;
            if (answer.what === 'goaway') {
                write(name, answer, headers, body.subarray(5));
                stream.session.goaway(http2.constants.NGHTTP2_NO_ERROR, Math.max(0, stream.id - 2));
                setTimeout(() => stream.session && stream.session.destroy(), 50);
                return;
            }
            write(name, answer, headers, body.subarray(5));
            if (answer.what === 'hang')
                return;
            stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
            stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
            const content = response(signal, answer);
            const head = Buffer.alloc(5);
            head.writeUInt32BE(answer.what === 'truncated' ? 1000 : content.length, 1);
            if (answer.what === 'truncated') {
                stream.write(head);
                setTimeout(() => stream.session && stream.session.destroy(), 50);
                return;
            }
            setTimeout(() => stream.end(Buffer.concat([head, content])), answer.what === 'slow' ? answer.number : 0);
        });
    });
    server.listen(options.port, '127.0.0.1', () => console.log('ready'));
}

({ http: serveHttp, grpc: serveGrpc, http2: serveHttp2 })[options.protocol]();
