// SPDX-License-Identifier: Apache-2.0
// An HTTPS server of Bun's linked-in BoringSSL: server.js PORT CERT KEY. Answers everything with 1 KiB.
const [port, cert, key] = process.argv.slice(2);
const body = "x".repeat(1024);
Bun.serve({port: +port, hostname: "127.0.0.1", tls: {cert: Bun.file(cert), key: Bun.file(key)}, fetch: () => new Response(body)});
