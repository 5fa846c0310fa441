/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP/1 decoder: conversations and what it tells of them (http1_log.h).
 * Each is fed whole, byte by byte, cut in two at every place, and cut at random,
 * in both roles; it must tell the same every time.
 */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/mem.h"
#include "http1_log.h"

enum what { NOTHING, REQUEST, RESPONSE, REQUEST_GAP, RESPONSE_GAP, REQUEST_END, RESPONSE_END };

struct step {
    enum what what;
    const char *bytes;
    size_t len;
};
/* clang-format off */
#define Q(text) {REQUEST, text, sizeof(text) - 1}
#define A(text) {RESPONSE, text, sizeof(text) - 1}
#define QGAP(n) {REQUEST_GAP, NULL, n}
#define AGAP(n) {RESPONSE_GAP, NULL, n}
#define QEND    {REQUEST_END, NULL, 0}
#define AEND    {RESPONSE_END, NULL, 0}
#define STEPS   12
/* clang-format on */

struct conversation {
    const char *name;
    bool joined;
    struct step steps[STEPS];
    const char *told;
};

/* The bytes of step i pass at i * 10 + 10; the connection is left at 1000. Oddities (odd=): enum http_oddity. */
static const struct conversation conversations[] = {
    {"one request",
     false,
     {Q("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), A("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")},
     "Q GET / 1 host=a length=-1 fields=1 @10-10\n"
     "A 200 OK 1 length=5 fields=1 kept=1 duration=10 @20-20\n"
     "B a hello\n"
     "D kept=1 status=200 q=0 a=5 complete @10-20-20\n"},
    {"chunked, with an extension and trailers (RFC 9112, section 7.1)",
     false,
     {Q("GET /c HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n"),
      A("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5;name=\"v;\"\r\nhello\r\n00A\r\n, "
        "world\r\n!\r\n0\r\nX-Sum: 1\r\n\r\n"),
      Q("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), A("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")},
     "Q GET /c 1 host=a length=-1 fields=2 @10-10\n"
     "A 200 OK 1 length=-1 fields=2 kept=1 duration=10 @20-20\n"
     "B a hello, world\r\n"
     "!\n"
     "D kept=1 status=200 q=0 a=15 complete @10-20-20\n"
     "Q GET / 1 host=a length=-1 fields=1 @30-30\n"
     "A 200 OK 1 length=0 fields=1 kept=2 duration=10 @40-40\n"
     "D kept=2 status=200 q=0 a=0 complete @30-40-40\n"},
    {"keep-alive of HTTP/1.1, three in a row",
     false,
     {Q("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), A("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1"),
      Q("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), A("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n22"),
      Q("POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"),
      A("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")},
     "Q GET / 1 host=a length=-1 fields=1 @10-10\n"
     "A 200 OK 1 length=1 fields=1 kept=1 duration=10 @20-20\n"
     "B a 1\n"
     "D kept=1 status=200 q=0 a=1 complete @10-20-20\n"
     "Q GET / 1 host=a length=-1 fields=1 @30-30\n"
     "A 200 OK 1 length=2 fields=1 kept=2 duration=10 @40-40\n"
     "B a 22\n"
     "D kept=2 status=200 q=0 a=2 complete @30-40-40\n"
     "Q POST /p 1 host=a length=3 fields=2 @50-50\n"
     "B q abc\n"
     "A 200 OK 1 length=0 fields=1 kept=3 duration=10 @60-60\n"
     "D kept=3 status=200 q=3 a=0 complete @50-60-60\n"},
    {"an expectation that is refused: the body doesn't come",
     false,
     {Q("POST /p HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"),
      A("HTTP/1.1 417 No\r\nContent-Length: 2\r\n\r\nno"),
      Q("PUT /q HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nTransfer-Encoding: chunked\r\n\r\n"),
      A("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n"), Q("GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
      A("HTTP/1.1 204 N\r\n\r\n")},
     "Q POST /p 1 host=a length=9 fields=3 @10-10\n"
     "A 417 No 1 length=2 fields=1 kept=1 duration=10 @20-20\n"
     "B a no\n"
     "D kept=1 status=417 q=0 a=2 complete @10-20-20\n"
     "Q PUT /q 1 host=a length=-1 fields=3 @30-30\n"
     "A 417 No 1 length=0 fields=1 kept=2 duration=10 @40-40\n"
     "D kept=2 status=417 q=0 a=0 complete @30-40-40\n"
     "Q GET / 1 host=a length=-1 fields=1 @50-50\n"
     "A 204 N 1 length=-1 fields=0 kept=3 duration=10 @60-60\n"
     "D kept=3 status=204 q=0 a=0 complete @50-60-60\n"},
    {"an expectation that is refused too late",
     false,
     {Q("POST /p HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\nsome"),
      A("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n"), Q(" bodyGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
      A("HTTP/1.1 204 N\r\n\r\n")},
     "Q POST /p 1 host=a length=9 fields=3 @10-10\n"
     "B q some\n"
     "A 417 No 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "B q  body\n"
     "D kept=1 status=417 q=9 a=0 complete @10-20-20\n"
     "Q GET / 1 host=a length=-1 fields=1 @30-30\n"
     "A 204 N 1 length=-1 fields=0 kept=2 duration=10 @40-40\n"
     "D kept=2 status=204 q=0 a=0 complete @30-40-40\n"},
    {"pipeline of three, bodies among them",
     false,
     {Q("GET / HTTP/1.1\r\nHost: a\r\n\r\nPOST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcHEAD /h "
        "HTTP/1.1\r\nHost: a\r\n\r\n"),
      A("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\noneHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntwoHTTP/1.1 200 "
        "OK\r\nContent-Length: 999\r\n\r\n")},
     "Q GET / 1 host=a length=-1 fields=1 @10-10\n"
     "Q POST /p 1 host=a length=3 fields=2 @10-10\n"
     "B q abc\n"
     "Q HEAD /h 1 host=a length=-1 fields=1 @10-10\n"
     "A 200 OK 1 length=3 fields=1 kept=1 duration=10 @20-20\n"
     "B a one\n"
     "D kept=1 status=200 q=0 a=3 complete @10-20-20\n"
     "A 200 OK 1 length=3 fields=1 kept=2 duration=10 @20-20\n"
     "B a two\n"
     "D kept=2 status=200 q=3 a=3 complete @10-20-20\n"
     "A 200 OK 1 length=999 fields=1 kept=3 duration=10 @20-20\n"
     "D kept=3 status=200 q=0 a=0 complete @10-20-20\n"},
    {"HTTP/1.0, body to the end",
     false,
     {Q("GET /old HTTP/1.0\r\n\r\n"), A("HTTP/1.0 200 OK\r\nServer: x\r\n\r\nall of\nit"), AEND, QEND},
     "Q GET /old 0 host=(none) length=-1 fields=0 @10-10\n"
     "A 200 OK 0 length=-1 fields=1 kept=1 duration=10 @20-20\n"
     "B a all of\n"
     "it\n"
     "D kept=1 status=200 q=0 a=9 complete @10-20-30\n"},
    {"a body to the end that is cut short by losing sight of it",
     false,
     {Q("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), A("HTTP/1.1 200 OK\r\n\r\npart")},
     "Q GET / 1 host=a length=-1 fields=1 @10-10\n"
     "A 200 OK 1 length=-1 fields=0 kept=1 duration=10 @20-20\n"
     "B a part\n"
     "D kept=1 status=200 q=0 a=4 @10-20-1000\n"},
    {"HTTP/1.0 keep-alive",
     false,
     {Q("GET /1 HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"),
      A("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx"), Q("GET /2 HTTP/1.0\r\n\r\n"),
      A("HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n")},
     "Q GET /1 0 host=(none) length=-1 fields=1 @10-10\n"
     "A 200 OK 0 length=1 fields=2 kept=1 duration=10 @20-20\n"
     "B a x\n"
     "D kept=1 status=200 q=0 a=1 complete @10-20-20\n"
     "Q GET /2 0 host=(none) length=-1 fields=0 @30-30\n"
     "A 404 Not Found 0 length=0 fields=1 kept=2 duration=10 @40-40\n"
     "D kept=2 status=404 q=0 a=0 complete @30-40-40\n"},
    {"behind the last message: noise is ignored",
     false,
     {Q("GET / HTTP/1.1\r\nConnection: close\r\n\r\n\0\1\2\2\4\5"),
      A("HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nok!!! noise\r\n")},
     "Q GET / 1 host=(none) length=-1 fields=1 @10-10\n"
     "A 200 OK 1 length=2 fields=2 kept=1 duration=10 @20-20\n"
     "B a ok\n"
     "D kept=1 status=200 q=0 a=2 complete @10-20-20\n"},
    {"behind the last message: another one is told",
     false,
     {Q("GET /1 HTTP/1.1\r\nConnection: close\r\n\r\nGET /2 HTTP/1.1\r\n\r\n"),
      A("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"), AEND},
     "Q GET /1 1 host=(none) length=-1 fields=1 @10-10\n"
     "Q GET /2 1 host=(none) length=-1 fields=0 @10-10\n"
     "A 200 OK 1 length=0 fields=2 kept=1 duration=10 @20-20\n"
     "D kept=1 status=200 q=0 a=0 complete @10-20-20\n"
     "D kept=2 status=0 q=0 a=0 @10-0-30\n"},
    {"a pipelined request that is not answered because the response closes",
     false,
     {Q("GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n"), A("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nbody"), AEND,
      Q("GET /3 HTTP/1.1\r\n\r\n")},
     "Q GET /1 1 host=(none) length=-1 fields=0 @10-10\n"
     "Q GET /2 1 host=(none) length=-1 fields=0 @10-10\n"
     "A 200 OK 1 length=-1 fields=1 kept=1 duration=10 @20-20\n"
     "B a body\n"
     "D kept=1 status=200 q=0 a=4 complete @10-20-30\n"
     "D kept=2 status=0 q=0 a=0 @10-0-30\n"
     "Q GET /3 1 host=(none) length=-1 fields=0 @40-40\n"
     "D kept=3 status=0 q=0 a=0 @40-0-40\n"},
    {"100-continue",
     false,
     {Q("PUT /u HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"),
      A("HTTP/1.1 100 Continue\r\n\r\n"), Q("data"), A("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")},
     "Q PUT /u 1 host=a length=4 fields=3 @10-10\n"
     "A 100 Continue 1 length=-1 fields=0 interim kept=1 duration=10 @20-20\n"
     "B q data\n"
     "A 201 Created 1 length=0 fields=1 kept=1 duration=30 @40-40\n"
     "D kept=1 status=201 q=4 a=0 complete @10-40-40\n"},
    {"early hints, twice, lengths in them mean nothing",
     false,
     {Q("GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
      A("HTTP/1.1 103 Early Hints\r\nLink: </s.css>\r\nContent-Length: 7\r\n\r\nHTTP/1.1 103 Early "
        "Hints\r\nTransfer-Encoding: chunked\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")},
     "Q GET / 1 host=a length=-1 fields=1 @10-10\n"
     "A 103 Early Hints 1 length=7 fields=2 interim kept=1 duration=10 @20-20\n"
     "A 103 Early Hints 1 length=-1 fields=1 interim kept=1 duration=10 @20-20\n"
     "A 200 OK 1 length=1 fields=1 kept=1 duration=10 @20-20\n"
     "B a x\n"
     "D kept=1 status=200 q=0 a=1 complete @10-20-20\n"},
    {"no body: HEAD, 204, 304",
     false,
     {Q("HEAD /1 HTTP/1.1\r\n\r\n"), A("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
      Q("GET /2 HTTP/1.1\r\n\r\n"), A("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"),
      Q("GET /3 HTTP/1.1\r\n\r\n"), A("HTTP/1.1 304 Not Modified\r\nContent-Length: 50\r\n\r\n"),
      Q("GET /4 HTTP/1.1\r\n\r\n"), A("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nend")},
     "Q HEAD /1 1 host=(none) length=-1 fields=0 @10-10\n"
     "A 200 OK 1 length=-1 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=200 q=0 a=0 complete @10-20-20\n"
     "Q GET /2 1 host=(none) length=-1 fields=0 @30-30\n"
     "A 204 No Content 1 length=5 fields=1 kept=2 duration=10 @40-40\n"
     "D kept=2 status=204 q=0 a=0 complete @30-40-40\n"
     "Q GET /3 1 host=(none) length=-1 fields=0 @50-50\n"
     "A 304 Not Modified 1 length=50 fields=1 kept=3 duration=10 @60-60\n"
     "D kept=3 status=304 q=0 a=0 complete @50-60-60\n"
     "Q GET /4 1 host=(none) length=-1 fields=0 @70-70\n"
     "A 200 OK 1 length=3 fields=1 kept=4 duration=10 @80-80\n"
     "B a end\n"
     "D kept=4 status=200 q=0 a=3 complete @70-80-80\n"},
    {"CONNECT: a tunnel, whatever lengths say",
     false,
     {Q("CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n"),
      A("HTTP/1.1 200 Connection established\r\nContent-Length: 3\r\n\r\n\x16\2\1"), Q("GET / HTTP/1.1\r\n"), QGAP(3),
      A("bytes"), AGAP(2), QEND, AEND},
     "Q CONNECT h:443 1 host=h:443 length=-1 fields=1 @10-10\n"
     "A 200 Connection established 1 length=3 fields=1 kept=1 duration=10 @20-20\n"
     "U (none) kept=1\n"
     "D kept=1 status=200 q=0 a=0 complete @10-20-20\n"
     "R a \026\002\001\n"
     "R q GET / HTTP/1.1\r\n"
     "___\n"
     "R a bytes__\n"},
    {"CONNECT with bytes sent before the answer",
     false,
     {Q("CONNECT h:443 HTTP/1.1\r\n\r\n\x16\2\1\2"), A("HTTP/1.1 200 OK\r\n\r\n"), Q("more")},
     "Q CONNECT h:443 1 host=(none) length=-1 fields=0 @10-10\n"
     "A 200 OK 1 length=-1 fields=0 kept=1 duration=10 @20-20\n"
     "U (none) kept=1\n"
     "D kept=1 status=200 q=0 a=0 complete @10-20-20\n"
     "R q \026\002\001\002more\n"},
    {"CONNECT refused, then retried",
     false,
     {Q("CONNECT h:443 HTTP/1.1\r\n\r\n"),
      A("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 2\r\n\r\nno"),
      Q("CONNECT h:443 HTTP/1.1\r\nProxy-Authorization: x\r\n\r\n"), A("HTTP/1.1 200 OK\r\n\r\n"), Q("x"), A("y")},
     "Q CONNECT h:443 1 host=(none) length=-1 fields=0 @10-10\n"
     "A 407 Proxy Authentication Required 1 length=2 fields=1 kept=1 duration=10 @20-20\n"
     "B a no\n"
     "D kept=1 status=407 q=0 a=2 complete @10-20-20\n"
     "Q CONNECT h:443 1 host=(none) length=-1 fields=1 @30-30\n"
     "A 200 OK 1 length=-1 fields=0 kept=2 duration=10 @40-40\n"
     "U (none) kept=2\n"
     "D kept=2 status=200 q=0 a=0 complete @30-40-40\n"
     "R q x\n"
     "R a y\n"},
    {"websocket",
     false,
     {Q("GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"),
      A("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\5hello"),
      Q("\x81\x80")},
     "Q GET /chat 1 host=a length=-1 fields=3 @10-10\n"
     "A 101 Switching Protocols 1 length=-1 fields=2 kept=1 duration=10 @20-20\n"
     "U websocket kept=1\n"
     "D kept=1 status=101 q=0 a=0 complete @10-20-20\n"
     "R a \201\005hello\n"
     "R q \201\200\n"},
    {"upgrade that is not taken, with a pipelined request behind it",
     false,
     {Q("GET /1 HTTP/1.1\r\nUpgrade: h2c\r\n\r\nGET /2 HTTP/1.1\r\nUpgrade: h2c\r\n\r\nGET /3 HTTP/1.1\r\n\r\n"),
      A("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1"), A("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2"),
      A("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n3")},
     "Q GET /1 1 host=(none) length=-1 fields=1 @10-10\n"
     "A 200 OK 1 length=1 fields=1 kept=1 duration=10 @20-20\n"
     "Q GET /2 1 host=(none) length=-1 fields=1 @10-10\n"
     "B a 1\n"
     "D kept=1 status=200 q=0 a=1 complete @10-20-20\n"
     "A 200 OK 1 length=1 fields=1 kept=2 duration=20 @30-30\n"
     "Q GET /3 1 host=(none) length=-1 fields=0 @10-10\n"
     "B a 2\n"
     "D kept=2 status=200 q=0 a=1 complete @10-30-30\n"
     "A 200 OK 1 length=1 fields=1 kept=3 duration=30 @40-40\n"
     "B a 3\n"
     "D kept=3 status=200 q=0 a=1 complete @10-40-40\n"},
    {"h2c: the request goes over with its owner pointer",
     false,
     {Q("GET / HTTP/1.1\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n"),
      A("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n\0\0\0\4\0\0\0\0\0"),
      Q("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")},
     "Q GET / 1 host=(none) length=-1 fields=3 @10-10\n"
     "A 101 Switching Protocols 1 length=-1 fields=2 kept=1 duration=10 @20-20\n"
     "U h2c kept=1\n"
     "R a ~~~\004~~~~~\n"
     "R q PRI * HTTP/2.0\r\n"
     "\r\n"
     "SM\r\n"
     "\r\n"
     "\n"},
    {"upgrade while the request is still being sent",
     false,
     {Q("POST / HTTP/1.1\r\nUpgrade: x\r\nContent-Length: 6\r\n\r\nabc"),
      A("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"), Q("def++"), A("--")},
     "Q POST / 1 host=(none) length=6 fields=2 @10-10\n"
     "B q abc\n"
     "A 101 Switching Protocols 1 length=-1 fields=1 kept=1 duration=10 @20-20\n"
     "U x kept=1\n"
     "B q def\n"
     "D kept=1 status=101 q=6 a=0 complete @10-20-20\n"
     "R q ++\n"
     "R a --\n"},
    {"an answer before the request is complete",
     false,
     {Q("POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\n12345"),
      A("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig"), Q("67890GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
      A("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")},
     "Q POST / 1 host=(none) length=10 fields=1 @10-10\n"
     "B q 12345\n"
     "A 413 Content Too Large 1 length=3 fields=1 kept=1 duration=10 @20-20\n"
     "B a big\n"
     "B q 67890\n"
     "D kept=1 status=413 q=10 a=3 complete @10-20-20\n"
     "Q GET / 1 host=a length=-1 fields=1 @30-30\n"
     "A 200 OK 1 length=0 fields=1 kept=2 duration=10 @40-40\n"
     "D kept=2 status=200 q=0 a=0 complete @30-40-40\n"},
    {"an answer before the request is told: it takes the next one",
     false,
     {A("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none"), Q("GET /1 HTTP/1.1\r\n\r\n"), Q("GET /2 HTTP/1.1\r\n\r\n"),
      A("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntwo")},
     "A 200 OK 1 length=3 fields=1 kept=0 duration=0 early @10-10\n"
     "B a one\n"
     "Q GET /1 1 host=(none) length=-1 fields=0 answer=early-1 @20-20\n"
     "D kept=1 status=200 q=0 a=3 complete @20-10-10\n"
     "Q GET /2 1 host=(none) length=-1 fields=0 @30-30\n"
     "A 200 OK 1 length=3 fields=1 kept=2 duration=10 @40-40\n"
     "B a two\n"
     "D kept=2 status=200 q=0 a=3 complete @30-40-40\n"},
    {"the same for HEAD",
     false,
     {A("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"), Q("HEAD /1 HTTP/1.1\r\n\r\n"), Q("GET /2 HTTP/1.1\r\n\r\n"),
      A("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntwo")},
     "A 200 OK 1 length=5 fields=1 kept=0 duration=0 early @10-10\n"
     "Q HEAD /1 1 host=(none) length=-1 fields=0 answer=early-1 @20-20\n"
     "D kept=1 status=200 q=0 a=0 complete @20-10-20\n"
     "Q GET /2 1 host=(none) length=-1 fields=0 @30-30\n"
     "A 200 OK 1 length=3 fields=1 kept=2 duration=10 @40-40\n"
     "B a two\n"
     "D kept=2 status=200 q=0 a=3 complete @30-40-40\n"},
    {"the same for CONNECT",
     false,
     {A("HTTP/1.1 200 OK\r\n\r\n"), Q("CONNECT h:1 HTTP/1.1\r\n\r\n"), Q("x"), A("y")},
     "A 200 OK 1 length=-1 fields=0 kept=0 duration=0 early @10-10\n"
     "Q CONNECT h:1 1 host=(none) length=-1 fields=0 answer=early-1 @20-20\n"
     "U (none) kept=1\n"
     "D kept=1 status=200 q=0 a=0 complete @20-10-20\n"
     "R q x\n"
     "R a y\n"},
    {"an answer that nobody asked for",
     false,
     {Q("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), A("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"),
      A("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"), AEND, QEND},
     "Q GET / 1 host=a length=-1 fields=1 @10-10\n"
     "A 200 OK 1 length=1 fields=1 kept=1 duration=10 @20-20\n"
     "B a x\n"
     "D kept=1 status=200 q=0 a=1 complete @10-20-20\n"
     "A 408 Request Timeout 1 length=0 fields=2 kept=0 duration=0 early @30-30\n"
     "D kept=early-1 status=408 q=0 a=0 @0-30-30\n"},
    {"no answer",
     false,
     {Q("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Q("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), QEND},
     "Q GET / 1 host=a length=-1 fields=1 @10-10\n"
     "Q GET / 1 host=a length=-1 fields=1 @20-20\n"
     "D kept=1 status=0 q=0 a=0 @10-0-1000\n"
     "D kept=2 status=0 q=0 a=0 @20-0-1000\n"},
    {"half a request", false, {Q("GET / HTTP/1.1\r\nHos"), QEND, AEND}, ""},
    {"half a body each",
     false,
     {Q("PUT / HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf"), A("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"), QEND,
      AEND},
     "Q PUT / 1 host=(none) length=9 fields=1 @10-10\n"
     "B q half\n"
     "A 200 OK 1 length=9 fields=1 kept=1 duration=10 @20-20\n"
     "B a half\n"
     "D kept=1 status=200 q=4 a=4 @10-20-40\n"},
    {"empty lines before messages",
     false,
     {Q("\r\n\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), A("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx\r\n"),
      Q("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), A("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\ny")},
     "Q GET / 1 host=a length=-1 fields=1 @10-10\n"
     "A 200 OK 1 length=1 fields=1 kept=1 duration=10 @20-20\n"
     "B a x\n"
     "D kept=1 status=200 q=0 a=1 complete @10-20-20\n"
     "Q GET / 1 host=a length=-1 fields=1 @30-30\n"
     "A 200 OK 1 length=1 fields=1 kept=2 duration=10 @40-40\n"
     "B a y\n"
     "D kept=2 status=200 q=0 a=1 complete @30-40-40\n"},
    {"LF alone ends lines",
     false,
     {Q("POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n3\nabc\n0\n\n"),
      A("HTTP/1.1 200\nContent-Length: 1\n\nx")},
     "Q POST / 1 host=a length=-1 fields=2 @10-10\n"
     "B q abc\n"
     "A 200  1 length=1 fields=1 kept=1 duration=10 @20-20\n"
     "B a x\n"
     "D kept=1 status=200 q=3 a=1 complete odd=20 @10-20-20\n"},
    {"white space of all sorts",
     false,
     {Q("GET /a b  HTTP/1.1 \r\nHost :\t a \r\nEmpty:\r\nno field\r\n: none\r\n\r\n"),
      A("HTTP/1.1 200 \r\nContent-Length:\t0\t\r\n\r\n")},
     "Q GET /a b 1 host=a length=-1 fields=2 odd=8 @10-10\n"
     "A 200  1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=200 q=0 a=0 complete odd=8 @10-20-20\n"},
    {"folded fields",
     false,
     {Q("GET / HTTP/1.1\r\n lost\r\nA: b\r\n c\r\n\td \r\nHost:\r\n  a\r\nTransfer-Encoding: gzip,\r\n "
        "chunked\r\n\r\n0\r\n\r\n"),
      A("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n 2\r\n\r\nrest"), AEND},
     "Q GET / 1 host=a length=-1 fields=3 odd=18 @10-10\n"
     "A 200 OK 1 length=-1 fields=1 odd=11 kept=1 duration=10 @20-20\n"
     "B a rest\n"
     "D kept=1 status=200 q=0 a=4 odd=19 @10-20-30\n"},
    {"bare CR and NUL",
     false,
     {Q("GET /\r HTTP/1.1\r\nA: \0b\rc\r\nHost: a\r\n\r\r\n\r\n"), A("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")},
     "Q GET / 1 host=a length=-1 fields=2 odd=48 @10-10\n"
     "A 200 OK 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=200 q=0 a=0 complete odd=48 @10-20-20\n"},
    {"the same length twice, and as a list",
     false,
     {Q("POST / HTTP/1.1\r\nContent-Length: 2\r\ncontent-length: 02, 2\r\n\r\nab"),
      A("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")},
     "Q POST / 1 host=(none) length=2 fields=2 @10-10\n"
     "B q ab\n"
     "A 200 OK 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=200 q=2 a=0 complete @10-20-20\n"},
    {"length of no use: 1 | Content-Length: 2",
     false,
     {Q("POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
      A("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), AEND, QEND},
     "Q POST / 1 host=(none) length=-1 fields=2 odd=1 @10-10\n"
     "B q GET / HTTP/1.1\r\n"
     "Host: a\r\n"
     "\r\n"
     "\n"
     "A 400 Bad Request 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=400 q=27 a=0 odd=1 @10-20-20\n"},
    {"length of no use: -1",
     false,
     {Q("POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
      A("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), AEND, QEND},
     "Q POST / 1 host=(none) length=-1 fields=1 odd=1 @10-10\n"
     "B q GET / HTTP/1.1\r\n"
     "Host: a\r\n"
     "\r\n"
     "\n"
     "A 400 Bad Request 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=400 q=27 a=0 odd=1 @10-20-20\n"},
    {"length of no use: +1",
     false,
     {Q("POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
      A("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), AEND, QEND},
     "Q POST / 1 host=(none) length=-1 fields=1 odd=1 @10-10\n"
     "B q GET / HTTP/1.1\r\n"
     "Host: a\r\n"
     "\r\n"
     "\n"
     "A 400 Bad Request 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=400 q=27 a=0 odd=1 @10-20-20\n"},
    {"length of no use: 0x10",
     false,
     {Q("POST / HTTP/1.1\r\nContent-Length: 0x10\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
      A("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), AEND, QEND},
     "Q POST / 1 host=(none) length=-1 fields=1 odd=1 @10-10\n"
     "B q GET / HTTP/1.1\r\n"
     "Host: a\r\n"
     "\r\n"
     "\n"
     "A 400 Bad Request 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=400 q=27 a=0 odd=1 @10-20-20\n"},
    {"length of no use: 1 1",
     false,
     {Q("POST / HTTP/1.1\r\nContent-Length: 1 1\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
      A("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), AEND, QEND},
     "Q POST / 1 host=(none) length=-1 fields=1 odd=1 @10-10\n"
     "B q GET / HTTP/1.1\r\n"
     "Host: a\r\n"
     "\r\n"
     "\n"
     "A 400 Bad Request 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=400 q=27 a=0 odd=1 @10-20-20\n"},
    {"length of no use: ",
     false,
     {Q("POST / HTTP/1.1\r\nContent-Length: \r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
      A("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), AEND, QEND},
     "Q POST / 1 host=(none) length=-1 fields=1 odd=1 @10-10\n"
     "B q GET / HTTP/1.1\r\n"
     "Host: a\r\n"
     "\r\n"
     "\n"
     "A 400 Bad Request 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=400 q=27 a=0 odd=1 @10-20-20\n"},
    {"length of no use: 1,",
     false,
     {Q("POST / HTTP/1.1\r\nContent-Length: 1,\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
      A("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), AEND, QEND},
     "Q POST / 1 host=(none) length=-1 fields=1 odd=1 @10-10\n"
     "B q GET / HTTP/1.1\r\n"
     "Host: a\r\n"
     "\r\n"
     "\n"
     "A 400 Bad Request 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=400 q=27 a=0 odd=1 @10-20-20\n"},
    {"length of no use: 1,2",
     false,
     {Q("POST / HTTP/1.1\r\nContent-Length: 1,2\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
      A("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), AEND, QEND},
     "Q POST / 1 host=(none) length=-1 fields=1 odd=1 @10-10\n"
     "B q GET / HTTP/1.1\r\n"
     "Host: a\r\n"
     "\r\n"
     "\n"
     "A 400 Bad Request 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=400 q=27 a=0 odd=1 @10-20-20\n"},
    {"length of no use: 99999999999999999999",
     false,
     {Q("POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
      A("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), AEND, QEND},
     "Q POST / 1 host=(none) length=-1 fields=1 odd=1 @10-10\n"
     "B q GET / HTTP/1.1\r\n"
     "Host: a\r\n"
     "\r\n"
     "\n"
     "A 400 Bad Request 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=400 q=27 a=0 odd=1 @10-20-20\n"},
    {"length of no use: 9223372036854775808",
     false,
     {Q("POST / HTTP/1.1\r\nContent-Length: 9223372036854775808\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
      A("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), AEND, QEND},
     "Q POST / 1 host=(none) length=-1 fields=1 odd=1 @10-10\n"
     "B q GET / HTTP/1.1\r\n"
     "Host: a\r\n"
     "\r\n"
     "\n"
     "A 400 Bad Request 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=400 q=27 a=0 odd=1 @10-20-20\n"},
    {"length of no use: 1;a",
     false,
     {Q("POST / HTTP/1.1\r\nContent-Length: 1;a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
      A("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), AEND, QEND},
     "Q POST / 1 host=(none) length=-1 fields=1 odd=1 @10-10\n"
     "B q GET / HTTP/1.1\r\n"
     "Host: a\r\n"
     "\r\n"
     "\n"
     "A 400 Bad Request 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=400 q=27 a=0 odd=1 @10-20-20\n"},
    {"length of no use: one",
     false,
     {Q("POST / HTTP/1.1\r\nContent-Length: one\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
      A("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), AEND, QEND},
     "Q POST / 1 host=(none) length=-1 fields=1 odd=1 @10-10\n"
     "B q GET / HTTP/1.1\r\n"
     "Host: a\r\n"
     "\r\n"
     "\n"
     "A 400 Bad Request 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=400 q=27 a=0 odd=1 @10-20-20\n"},
    {"response with two lengths",
     false,
     {Q("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), A("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nabc"),
      AEND},
     "Q GET / 1 host=a length=-1 fields=1 @10-10\n"
     "A 200 OK 1 length=-1 fields=2 odd=1 kept=1 duration=10 @20-20\n"
     "B a abc\n"
     "D kept=1 status=200 q=0 a=3 odd=1 @10-20-30\n"},
    {"length and chunked: chunked it is",
     false,
     {Q("POST / HTTP/1.1\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled "
        "HTTP/1.1\r\n\r\n"),
      A("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")},
     "Q POST / 1 host=(none) length=6 fields=2 odd=2 @10-10\n"
     "Q GET /smuggled 1 host=(none) length=-1 fields=0 @10-10\n"
     "A 200 OK 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=200 q=0 a=0 complete odd=2 @10-20-20\n"
     "A 200 OK 1 length=0 fields=1 kept=2 duration=10 @20-20\n"
     "D kept=2 status=200 q=0 a=0 complete @10-20-20\n"},
    {"length and chunked in a response",
     false,
     {Q("GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
      A("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n1\r\nx\r\n0\r\n\r\n"), AEND},
     "Q GET / 1 host=a length=-1 fields=1 @10-10\n"
     "A 200 OK 1 length=1 fields=2 odd=2 kept=1 duration=10 @20-20\n"
     "B a x\n"
     "D kept=1 status=200 q=0 a=1 complete odd=2 @10-20-20\n"},
    {"request with coding identity",
     false,
     {Q("POST / HTTP/1.1\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
      A("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), QEND},
     "Q POST / 1 host=(none) length=-1 fields=1 odd=4 @10-10\n"
     "B q 0\r\n"
     "\r\n"
     "\n"
     "A 400 Bad Request 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=400 q=5 a=0 odd=4 @10-20-20\n"},
    {"request with coding chunked, identity",
     false,
     {Q("POST / HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
      A("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), QEND},
     "Q POST / 1 host=(none) length=-1 fields=1 odd=4 @10-10\n"
     "B q 0\r\n"
     "\r\n"
     "\n"
     "A 400 Bad Request 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=400 q=5 a=0 odd=4 @10-20-20\n"},
    {"request with coding chunked, chunked",
     false,
     {Q("POST / HTTP/1.1\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
      A("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), QEND},
     "Q POST / 1 host=(none) length=-1 fields=1 odd=4 @10-10\n"
     "A 400 Bad Request 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=400 q=0 a=0 complete odd=4 @10-20-20\n"},
    {"request with coding chunked | Transfer-Encoding: chunked",
     false,
     {Q("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
      A("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), QEND},
     "Q POST / 1 host=(none) length=-1 fields=2 odd=4 @10-10\n"
     "A 400 Bad Request 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=400 q=0 a=0 complete odd=4 @10-20-20\n"},
    {"request with coding xchunked",
     false,
     {Q("POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
      A("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), QEND},
     "Q POST / 1 host=(none) length=-1 fields=1 odd=4 @10-10\n"
     "B q 0\r\n"
     "\r\n"
     "\n"
     "A 400 Bad Request 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=400 q=5 a=0 odd=4 @10-20-20\n"},
    {"request with coding chunked;q=1",
     false,
     {Q("POST / HTTP/1.1\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n"),
      A("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), QEND},
     "Q POST / 1 host=(none) length=-1 fields=1 odd=4 @10-10\n"
     "B q 0\r\n"
     "\r\n"
     "\n"
     "A 400 Bad Request 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=400 q=5 a=0 odd=4 @10-20-20\n"},
    {"request with coding (VT)chunked",
     false,
     {Q("POST / HTTP/1.1\r\nTransfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n"),
      A("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), QEND},
     "Q POST / 1 host=(none) length=-1 fields=1 odd=4 @10-10\n"
     "B q 0\r\n"
     "\r\n"
     "\n"
     "A 400 Bad Request 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=400 q=5 a=0 odd=4 @10-20-20\n"},
    {"request with coding ,",
     false,
     {Q("POST / HTTP/1.1\r\nTransfer-Encoding: ,\r\n\r\n0\r\n\r\n"),
      A("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), QEND},
     "Q POST / 1 host=(none) length=-1 fields=1 odd=4 @10-10\n"
     "B q 0\r\n"
     "\r\n"
     "\n"
     "A 400 Bad Request 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=400 q=5 a=0 odd=4 @10-20-20\n"},
    {"request with coding gzip, CHUNKED,",
     false,
     {Q("POST / HTTP/1.1\r\nTransfer-Encoding: gzip, CHUNKED,\r\n\r\n0\r\n\r\n"),
      A("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), QEND},
     "Q POST / 1 host=(none) length=-1 fields=1 @10-10\n"
     "A 400 Bad Request 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=400 q=0 a=0 complete @10-20-20\n"},
    {"response whose last coding is not chunked",
     false,
     {Q("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), A("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
      AEND},
     "Q GET / 1 host=a length=-1 fields=1 @10-10\n"
     "A 200 OK 1 length=-1 fields=1 odd=4 kept=1 duration=10 @20-20\n"
     "B a 0\r\n"
     "\r\n"
     "\n"
     "D kept=1 status=200 q=0 a=5 complete odd=4 @10-20-30\n"},
    {"chunked in HTTP/1.0",
     false,
     {Q("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"),
      A("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n")},
     "Q POST / 0 host=(none) length=-1 fields=1 odd=80 @10-10\n"
     "B q x\n"
     "A 200 OK 0 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=200 q=1 a=0 complete odd=80 @10-20-20\n"},
    {"chunk size of no use: ",
     false,
     {Q("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n\r\nb\r\n0\r\n\r\n"),
      A("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), QEND},
     "Q POST / 1 host=(none) length=-1 fields=1 @10-10\n"
     "B q a\r\n"
     "b\r\n"
     "0\r\n"
     "\r\n"
     "\n"
     "A 400 Bad Request 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=400 q=11 a=0 odd=20 @10-20-20\n"},
    {"chunk size of no use: x",
     false,
     {Q("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\nx\r\nb\r\n0\r\n\r\n"),
      A("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), QEND},
     "Q POST / 1 host=(none) length=-1 fields=1 @10-10\n"
     "B q ax\r\n"
     "b\r\n"
     "0\r\n"
     "\r\n"
     "\n"
     "A 400 Bad Request 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=400 q=12 a=0 odd=20 @10-20-20\n"},
    {"chunk size of no use: -1",
     false,
     {Q("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n-1\r\nb\r\n0\r\n\r\n"),
      A("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), QEND},
     "Q POST / 1 host=(none) length=-1 fields=1 @10-10\n"
     "B q a-1\r\n"
     "b\r\n"
     "0\r\n"
     "\r\n"
     "\n"
     "A 400 Bad Request 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=400 q=13 a=0 odd=20 @10-20-20\n"},
    {"chunk size of no use: 0x1",
     false,
     {Q("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0x1\r\nb\r\n0\r\n\r\n"),
      A("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), QEND},
     "Q POST / 1 host=(none) length=-1 fields=1 @10-10\n"
     "B q ax1\r\n"
     "b\r\n"
     "0\r\n"
     "\r\n"
     "\n"
     "A 400 Bad Request 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=400 q=13 a=0 odd=20 @10-20-20\n"},
    {"chunk size of no use: +1",
     false,
     {Q("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n+1\r\nb\r\n0\r\n\r\n"),
      A("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), QEND},
     "Q POST / 1 host=(none) length=-1 fields=1 @10-10\n"
     "B q a+1\r\n"
     "b\r\n"
     "0\r\n"
     "\r\n"
     "\n"
     "A 400 Bad Request 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=400 q=13 a=0 odd=20 @10-20-20\n"},
    {"chunk size of no use:  1",
     false,
     {Q("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n 1\r\nb\r\n0\r\n\r\n"),
      A("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), QEND},
     "Q POST / 1 host=(none) length=-1 fields=1 @10-10\n"
     "B q a 1\r\n"
     "b\r\n"
     "0\r\n"
     "\r\n"
     "\n"
     "A 400 Bad Request 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=400 q=13 a=0 odd=20 @10-20-20\n"},
    {"chunk size of no use: 8000000000000000",
     false,
     {Q("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n8000000000000000\r\nb\r\n0\r\n\r\n"),
      A("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), QEND},
     "Q POST / 1 host=(none) length=-1 fields=1 @10-10\n"
     "B q a0\r\n"
     "b\r\n"
     "0\r\n"
     "\r\n"
     "\n"
     "A 400 Bad Request 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=400 q=12 a=0 odd=20 @10-20-20\n"},
    {"chunk size of no use: FFFFFFFFFFFFFFFFF",
     false,
     {Q("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\nFFFFFFFFFFFFFFFFF\r\nb\r\n0\r\n\r\n"),
      A("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), QEND},
     "Q POST / 1 host=(none) length=-1 fields=1 @10-10\n"
     "B q aFF\r\n"
     "b\r\n"
     "0\r\n"
     "\r\n"
     "\n"
     "A 400 Bad Request 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=400 q=13 a=0 odd=20 @10-20-20\n"},
    {"chunk size of no use: 1 1",
     false,
     {Q("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1 1\r\nb\r\n0\r\n\r\n"),
      A("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), QEND},
     "Q POST / 1 host=(none) length=-1 fields=1 @10-10\n"
     "B q a1\r\n"
     "b\r\n"
     "0\r\n"
     "\r\n"
     "\n"
     "A 400 Bad Request 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=400 q=12 a=0 odd=20 @10-20-20\n"},
    {"chunk size of no use: ;a",
     false,
     {Q("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n;a\r\nb\r\n0\r\n\r\n"),
      A("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), QEND},
     "Q POST / 1 host=(none) length=-1 fields=1 @10-10\n"
     "B q a;a\r\n"
     "b\r\n"
     "0\r\n"
     "\r\n"
     "\n"
     "A 400 Bad Request 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=400 q=13 a=0 odd=20 @10-20-20\n"},
    {"chunk size that some understand: 1(CR)x",
     false,
     {Q("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\rx\r\nb\r\n0\r\n\r\n"),
      A("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")},
     "Q POST / 1 host=(none) length=-1 fields=1 @10-10\n"
     "B q b\n"
     "A 200 OK 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=200 q=1 a=0 complete odd=20 @10-20-20\n"},
    {"chunk size that some understand: 1 ",
     false,
     {Q("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1 \r\nb\r\n0\r\n\r\n"),
      A("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")},
     "Q POST / 1 host=(none) length=-1 fields=1 @10-10\n"
     "B q b\n"
     "A 200 OK 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=200 q=1 a=0 complete odd=20 @10-20-20\n"},
    {"chunk size that some understand: 1(HT);a",
     false,
     {Q("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\t;a\r\nb\r\n0\r\n\r\n"),
      A("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")},
     "Q POST / 1 host=(none) length=-1 fields=1 @10-10\n"
     "B q b\n"
     "A 200 OK 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=200 q=1 a=0 complete odd=20 @10-20-20\n"},
    {"chunk size that some understand: 1;a=b(CR)c",
     false,
     {Q("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;a=b\rc\r\nb\r\n0\r\n\r\n"),
      A("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")},
     "Q POST / 1 host=(none) length=-1 fields=1 @10-10\n"
     "B q b\n"
     "A 200 OK 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=200 q=1 a=0 complete odd=20 @10-20-20\n"},
    {"chunk size that some understand: 1;(LF)",
     false,
     {Q("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;\nb\r\n0\r\n\r\n"),
      A("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")},
     "Q POST / 1 host=(none) length=-1 fields=1 @10-10\n"
     "B q b\n"
     "A 200 OK 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=200 q=1 a=0 complete odd=20 @10-20-20\n"},
    {"chunk size that some understand: 1(LF)",
     false,
     {Q("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\nb\r\n0\r\n\r\n"),
      A("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")},
     "Q POST / 1 host=(none) length=-1 fields=1 @10-10\n"
     "B q b\n"
     "A 200 OK 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=200 q=1 a=0 complete odd=20 @10-20-20\n"},
    {"chunk size that some understand: 00000000000000000001",
     false,
     {Q("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n00000000000000000001\r\nb\r\n0\r\n\r\n"),
      A("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")},
     "Q POST / 1 host=(none) length=-1 fields=1 @10-10\n"
     "B q b\n"
     "A 200 OK 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=200 q=1 a=0 complete odd=20 @10-20-20\n"},
    {"chunk data that is longer than it says",
     false,
     {Q("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n"),
      A("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")},
     "Q POST / 1 host=(none) length=-1 fields=1 @10-10\n"
     "B q abc\r\n"
     "0\r\n"
     "\r\n"
     "\n"
     "A 200 OK 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=200 q=10 a=0 odd=20 @10-20-20\n"},
    {"not HTTP: bytes", false, {Q("\x16\2\1\2\0"), A("\x15\2")}, "N not-http 0\n"},
    {"not HTTP: HTTP/0.9", false, {Q("GET /\r\n"), A("<html>")}, "N not-http 0\n"},
    {"not HTTP: HTTP/2", false, {Q("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), A("\0")}, "N not-http 0\n"},
    {"not HTTP: after a while",
     false,
     {Q("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\n\r\n"),
      A("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxnoise\r\n"), Q("GET / HTTP/1.1\r\nHost: a\r\n\r\n")},
     "Q GET / 1 host=a length=-1 fields=1 @10-10\n"
     "Q GET /2 1 host=(none) length=-1 fields=0 @10-10\n"
     "A 200 OK 1 length=1 fields=1 kept=1 duration=10 @20-20\n"
     "B a x\n"
     "D kept=1 status=200 q=0 a=1 complete @10-20-20\n"
     "D kept=2 status=0 q=0 a=0 @10-0-20\n"
     "N not-http 0\n"},
    {"not HTTP: two directions of requests",
     false,
     {Q("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), A("GET / HTTP/1.1\r\n\r\n")},
     "Q GET / 1 host=a length=-1 fields=1 @10-10\n"
     "D kept=1 status=0 q=0 a=0 @10-0-20\n"
     "N not-http 0\n"},
    {"not HTTP: two directions of responses",
     false,
     {Q("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), A("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")},
     "A 200 OK 1 length=0 fields=1 kept=0 duration=0 early @10-10\n"
     "D kept=early-1 status=200 q=0 a=0 @0-10-10\n"
     "N not-http 0\n"},
    {"not HTTP: a status that is none",
     false,
     {Q("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), A("HTTP/1.1 099 X\r\n\r\n")},
     "Q GET / 1 host=a length=-1 fields=1 @10-10\n"
     "D kept=1 status=0 q=0 a=0 @10-0-20\n"
     "N not-http 0\n"},
    {"not HTTP: a method that is none", false, {Q("G(T / HTTP/1.1\r\n\r\n")}, "N not-http 0\n"},
    {"not HTTP: a version that is none", false, {Q("GET / HTTP/1.x\r\n\r\n")}, "N not-http 0\n"},
    {"gaps in bodies are part of them",
     false,
     {Q("PUT / HTTP/1.1\r\nContent-Length: 8\r\n\r\nab"), QGAP(4), Q("gh"),
      A("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n"), AGAP(5), A("f\r\n0\r\n\r\n"),
      Q("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), A("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"), AGAP(3), AEND},
     "Q PUT / 1 host=(none) length=8 fields=1 @10-10\n"
     "B q ab____gh\n"
     "A 200 OK 1 length=-1 fields=1 kept=1 duration=30 @40-40\n"
     "B a _____f\n"
     "D kept=1 status=200 q=8 a=6 complete @10-40-60\n"
     "Q GET / 1 host=a length=-1 fields=1 @70-70\n"
     "A 200 OK 1 length=-1 fields=1 kept=2 duration=10 @80-80\n"
     "B a ___\n"
     "D kept=2 status=200 q=0 a=3 complete @70-80-100\n"},
    {"gap between messages of a request direction",
     false,
     {Q("GET /1 HTTP/1.1\r\n\r\n"), A("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), QGAP(10),
      Q(" HTTP/1.1\r\nHost: a\r\n\r\n"), A("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlost"),
      Q("GET /3 HTTP/1.1\r\n\r\n"), A("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n3"), Q("GET /4 HTTP/1.1\r\n\r\n"),
      A("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n4")},
     "Q GET /1 1 host=(none) length=-1 fields=0 @10-10\n"
     "A 200 OK 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=200 q=0 a=0 complete @10-20-20\n"
     "A 200 OK 1 length=4 fields=1 kept=0 duration=0 @50-50\n"
     "B a lost\n"
     "D kept=0 status=200 q=0 a=4 @0-50-50\n"
     "N lost 32\n"
     "Q GET /3 1 host=(none) length=-1 fields=0 @60-60\n"
     "A 200 OK 1 length=1 fields=1 kept=2 duration=10 @70-70\n"
     "B a 3\n"
     "D kept=2 status=200 q=0 a=1 complete @60-70-70\n"
     "Q GET /4 1 host=(none) length=-1 fields=0 @80-80\n"
     "A 200 OK 1 length=1 fields=1 kept=3 duration=10 @90-90\n"
     "B a 4\n"
     "D kept=3 status=200 q=0 a=1 complete @80-90-90\n"},
    {"gap in a head",
     false,
     {Q("GET /1 HTTP/1.1\r\nHo"), QGAP(4), Q("\r\n\r\n"), A("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
      Q("GET /2 HTTP/1.1\r\n\r\n"), A("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2")},
     "A 200 OK 1 length=0 fields=1 kept=0 duration=0 @40-40\n"
     "D kept=0 status=200 q=0 a=0 @0-40-40\n"
     "N lost 8\n"
     "Q GET /2 1 host=(none) length=-1 fields=0 @50-50\n"
     "A 200 OK 1 length=1 fields=1 kept=1 duration=10 @60-60\n"
     "B a 2\n"
     "D kept=1 status=200 q=0 a=1 complete @50-60-60\n"},
    {"gap over the end of a response",
     false,
     {Q("GET /1 HTTP/1.1\r\n\r\n"), A("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"), AGAP(20),
      Q("GET /2 HTTP/1.1\r\n\r\n"), A("1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2")},
     "Q GET /1 1 host=(none) length=-1 fields=0 @10-10\n"
     "A 200 OK 1 length=5 fields=1 kept=1 duration=10 @20-20\n"
     "B a ab___\n"
     "D kept=1 status=200 q=0 a=5 complete @10-20-30\n"
     "Q GET /2 1 host=(none) length=-1 fields=0 @40-40\n"
     "N lost 29\n"
     "A 200 OK 1 length=1 fields=1 kept=2 duration=10 @50-50\n"
     "B a 2\n"
     "D kept=2 status=200 q=0 a=1 complete @40-50-50\n"},
    {"gap among chunks, text that only looks like a beginning",
     false,
     {Q("GET /1 HTTP/1.1\r\n\r\n"), A("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1"), AGAP(1),
      A("HTTP/1.1 is it\r\nGET / HTTP/1.1\r\nHTTP/1.1 200 O\nHTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
      AEND},
     "Q GET /1 1 host=(none) length=-1 fields=0 @10-10\n"
     "A 200 OK 1 length=-1 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=200 q=0 a=0 gap @10-20-30\n"
     "N lost 48\n"
     "A 404 Not Found 1 length=0 fields=1 kept=0 duration=0 @40-40\n"
     "D kept=0 status=404 q=0 a=0 @0-40-40\n"},
    {"gap in the responses of a pipeline: nothing pairs any more",
     false,
     {Q("GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n"), AGAP(9),
      A("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n1or2"), Q("GET /3 HTTP/1.1\r\n\r\n"),
      A("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n2or3")},
     "Q GET /1 1 host=(none) length=-1 fields=0 @10-10\n"
     "Q GET /2 1 host=(none) length=-1 fields=0 @10-10\n"
     "D kept=1 status=0 q=0 a=0 gap @10-0-20\n"
     "D kept=2 status=0 q=0 a=0 gap @10-0-20\n"
     "N lost 9\n"
     "A 200 OK 1 length=4 fields=1 kept=0 duration=0 @30-30\n"
     "B a 1or2\n"
     "D kept=0 status=200 q=0 a=4 @0-30-30\n"
     "Q GET /3 1 host=(none) length=-1 fields=0 @40-40\n"
     "D kept=3 status=0 q=0 a=0 gap @40-0-40\n"
     "A 200 OK 1 length=4 fields=1 kept=0 duration=0 @50-50\n"
     "B a 2or3\n"
     "D kept=0 status=200 q=0 a=4 @0-50-50\n"},
    {"gap in the requests of a pipeline: neither",
     false,
     {Q("GET /1 HTTP/1.1\r\n\r\n"), QGAP(9), Q("GET /3 HTTP/1.1\r\n\r\n"),
      A("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1"), A("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n2or3")},
     "Q GET /1 1 host=(none) length=-1 fields=0 @10-10\n"
     "N lost 9\n"
     "D kept=1 status=0 q=0 a=0 gap @10-0-30\n"
     "Q GET /3 1 host=(none) length=-1 fields=0 @30-30\n"
     "D kept=2 status=0 q=0 a=0 gap @30-0-30\n"
     "A 200 OK 1 length=1 fields=1 kept=0 duration=0 @40-40\n"
     "B a 1\n"
     "D kept=0 status=200 q=0 a=1 @0-40-40\n"
     "A 200 OK 1 length=4 fields=1 kept=0 duration=0 @50-50\n"
     "B a 2or3\n"
     "D kept=0 status=200 q=0 a=4 @0-50-50\n"},
    {"gap that nothing follows",
     false,
     {Q("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), AGAP(7), A("abc\r\n"), AEND},
     "Q GET / 1 host=a length=-1 fields=1 @10-10\n"
     "D kept=1 status=0 q=0 a=0 gap @10-0-20\n"
     "N lost 12\n"},
    {"gap first of all",
     false,
     {QGAP(5), Q("x\r\n"), A("\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
      Q("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), A("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")},
     "A 200 OK 1 length=0 fields=1 kept=0 duration=0 @30-30\n"
     "D kept=0 status=200 q=0 a=0 @0-30-30\n"
     "N lost 8\n"
     "Q GET / 1 host=a length=-1 fields=1 @40-40\n"
     "A 200 OK 1 length=0 fields=1 kept=1 duration=10 @50-50\n"
     "D kept=1 status=200 q=0 a=0 complete @40-50-50\n"},
    {"gap where an answer decides what follows",
     false,
     {Q("GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n"), QGAP(3), A("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
      Q("y")},
     "Q GET / 1 host=(none) length=-1 fields=1 @10-10\n"
     "A 101 Switching Protocols 1 length=-1 fields=1 kept=1 duration=20 @30-30\n"
     "U x kept=1\n"
     "D kept=1 status=101 q=0 a=0 complete @10-30-30\n"
     "N lost 3\n"
     "R q y\n"},
    {"a request after the response direction ended",
     false,
     {Q("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), A("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"), AEND,
      Q("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), QEND},
     "Q GET / 1 host=a length=-1 fields=1 @10-10\n"
     "A 200 OK 1 length=1 fields=1 kept=1 duration=10 @20-20\n"
     "B a x\n"
     "D kept=1 status=200 q=0 a=1 complete @10-20-20\n"
     "Q GET / 1 host=a length=-1 fields=1 @40-40\n"
     "D kept=2 status=0 q=0 a=0 @40-0-40\n"},
    {"noise in front of HTTP in a joined connection",
     true,
     {Q("FOO / HTTP/1.1\r\nGET / HTTP/1.1\nPOST /\1 HTTP/1.1\r\nget / HTTP/1.1\r\nATCH / HTTP/1.1\r\nPATCH / "
        "HTTP/1.1\r\n\r\n"),
      A("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")},
     "N joined 0\n"
     "Q PATCH / 1 host=(none) length=-1 fields=0 @10-10\n"
     "A 200 OK 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=200 q=0 a=0 complete @10-20-20\n"},
    {"an informational answer, and no other",
     false,
     {Q("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), A("HTTP/1.1 100 Continue\r\n\r\n"), AEND, QEND},
     "Q GET / 1 host=a length=-1 fields=1 @10-10\n"
     "A 100 Continue 1 length=-1 fields=0 interim kept=1 duration=10 @20-20\n"
     "D kept=1 status=0 q=0 a=0 @10-0-30\n"},
    {"pipelined behind a request that closes an upgrade",
     false,
     {Q("GET /1 HTTP/1.1\r\nUpgrade: x\r\n\r\nGET /2 HTTP/1.1\r\n\r\n"), A("HTTP/1.1 101 x\r\nUpgrade: x\r\n\r\n")},
     "Q GET /1 1 host=(none) length=-1 fields=1 @10-10\n"
     "A 101 x 1 length=-1 fields=1 kept=1 duration=10 @20-20\n"
     "U x kept=1\n"
     "D kept=1 status=101 q=0 a=0 complete @10-20-20\n"
     "R q GET /2 HTTP/1.1\r\n"
     "\r\n"
     "\n"},
    {"an answer to an upgrade that never comes",
     false,
     {Q("GET /1 HTTP/1.1\r\nUpgrade: x\r\n\r\nGET /2 HTTP/1.1\r\n\r\n"), AEND},
     "Q GET /1 1 host=(none) length=-1 fields=1 @10-10\n"
     "D kept=1 status=0 q=0 a=0 @10-0-20\n"
     "Q GET /2 1 host=(none) length=-1 fields=0 @10-10\n"
     "D kept=2 status=0 q=0 a=0 @10-0-10\n"},
    {"a folded length",
     false,
     {Q("POST /1 HTTP/1.1\r\nContent-Length:\r\n 2\r\n \r\n\r\nabPOST /2 HTTP/1.1\r\nContent-Length:\r\n \r\nA: "
        "b\r\n\r\nab"),
      A("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")},
     "Q POST /1 1 host=(none) length=2 fields=1 odd=10 @10-10\n"
     "B q ab\n"
     "Q POST /2 1 host=(none) length=-1 fields=2 odd=11 @10-10\n"
     "B q ab\n"
     "A 200 OK 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=200 q=2 a=0 complete odd=10 @10-20-20\n"
     "D kept=2 status=0 q=2 a=0 odd=11 @10-0-1000\n"},
    {"white space in a status line",
     false,
     {Q("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), A("HTTP/1.1 \t200\r\nContent-Length: 0\r\n\r\n"),
      Q("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), A("HTTP/1.1200 OK\r\n\r\n")},
     "Q GET / 1 host=a length=-1 fields=1 @10-10\n"
     "A 200  1 length=0 fields=1 odd=8 kept=1 duration=10 @20-20\n"
     "D kept=1 status=200 q=0 a=0 complete odd=8 @10-20-20\n"
     "Q GET / 1 host=a length=-1 fields=1 @30-30\n"
     "D kept=2 status=0 q=0 a=0 @30-0-40\n"
     "N not-http 0\n"},
    {"an upgrade that is given up while it is being sent holds nothing",
     false,
     {Q("POST /1 HTTP/1.1\r\nUpgrade: x\r\nContent-Length: 2\r\n\r\na"), AGAP(3), Q("bGET /2 HTTP/1.1\r\n\r\n"),
      A("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2")},
     "Q POST /1 1 host=(none) length=2 fields=2 @10-10\n"
     "B q ab\n"
     "D kept=1 status=0 q=2 a=0 gap @10-0-30\n"
     "Q GET /2 1 host=(none) length=-1 fields=0 @30-30\n"
     "N lost 3\n"
     "A 200 OK 1 length=1 fields=1 kept=2 duration=10 @40-40\n"
     "B a 2\n"
     "D kept=2 status=200 q=0 a=1 complete @30-40-40\n"},
    {"answers nobody asked for, all the time",
     false,
     {A("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 "
        "OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: "
        "0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 "
        "OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: "
        "0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 "
        "OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: "
        "0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
      QEND, AEND},
     "A 200 OK 1 length=0 fields=1 kept=0 duration=0 early @10-10\n"
     "A 200 OK 1 length=0 fields=1 kept=0 duration=0 early @10-10\n"
     "A 200 OK 1 length=0 fields=1 kept=0 duration=0 early @10-10\n"
     "A 200 OK 1 length=0 fields=1 kept=0 duration=0 early @10-10\n"
     "A 200 OK 1 length=0 fields=1 kept=0 duration=0 early @10-10\n"
     "A 200 OK 1 length=0 fields=1 kept=0 duration=0 early @10-10\n"
     "A 200 OK 1 length=0 fields=1 kept=0 duration=0 early @10-10\n"
     "A 200 OK 1 length=0 fields=1 kept=0 duration=0 early @10-10\n"
     "A 200 OK 1 length=0 fields=1 kept=0 duration=0 early @10-10\n"
     "A 200 OK 1 length=0 fields=1 kept=0 duration=0 early @10-10\n"
     "A 200 OK 1 length=0 fields=1 kept=0 duration=0 early @10-10\n"
     "A 200 OK 1 length=0 fields=1 kept=0 duration=0 early @10-10\n"
     "A 200 OK 1 length=0 fields=1 kept=0 duration=0 early @10-10\n"
     "A 200 OK 1 length=0 fields=1 kept=0 duration=0 early @10-10\n"
     "A 200 OK 1 length=0 fields=1 kept=0 duration=0 early @10-10\n"
     "A 200 OK 1 length=0 fields=1 kept=0 duration=0 early @10-10\n"
     "D kept=early-1 status=200 q=0 a=0 @0-10-10\n"
     "D kept=early-2 status=200 q=0 a=0 @0-10-10\n"
     "D kept=early-3 status=200 q=0 a=0 @0-10-10\n"
     "D kept=early-4 status=200 q=0 a=0 @0-10-10\n"
     "D kept=early-5 status=200 q=0 a=0 @0-10-10\n"
     "D kept=early-6 status=200 q=0 a=0 @0-10-10\n"
     "D kept=early-7 status=200 q=0 a=0 @0-10-10\n"
     "D kept=early-8 status=200 q=0 a=0 @0-10-10\n"
     "D kept=early-9 status=200 q=0 a=0 @0-10-10\n"
     "D kept=early-10 status=200 q=0 a=0 @0-10-10\n"
     "D kept=early-11 status=200 q=0 a=0 @0-10-10\n"
     "D kept=early-12 status=200 q=0 a=0 @0-10-10\n"
     "D kept=early-13 status=200 q=0 a=0 @0-10-10\n"
     "D kept=early-14 status=200 q=0 a=0 @0-10-10\n"
     "D kept=early-15 status=200 q=0 a=0 @0-10-10\n"
     "D kept=early-16 status=200 q=0 a=0 @0-10-10\n"
     "A 200 OK 1 length=0 fields=1 kept=0 duration=0 @10-10\n"
     "D kept=0 status=200 q=0 a=0 @0-10-10\n"},
    {"answers behind the end of requests",
     false,
     {QEND, A("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), A("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")},
     "A 200 OK 1 length=0 fields=1 kept=0 duration=0 @20-20\n"
     "D kept=0 status=200 q=0 a=0 @0-20-20\n"
     "A 200 OK 1 length=0 fields=1 kept=0 duration=0 @30-30\n"
     "D kept=0 status=200 q=0 a=0 @0-30-30\n"},
    {"chunk extensions",
     false,
     {Q("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;a;b=c\r\nx\r\n1;\r\r\ny\r\n0\r\n\r\n"),
      A("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")},
     "Q POST / 1 host=(none) length=-1 fields=1 @10-10\n"
     "B q xy\n"
     "A 200 OK 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=200 q=2 a=0 complete odd=20 @10-20-20\n"},
    {"a gap behind an answer whose request is not told yet",
     false,
     {A("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), AGAP(3), A("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nx"),
      Q("GET /1 HTTP/1.1\r\n\r\n"), A("y"), Q("GET /2 HTTP/1.1\r\n\r\n"),
      A("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")},
     "A 200 OK 1 length=0 fields=1 kept=0 duration=0 early @10-10\n"
     "D kept=early-1 status=200 q=0 a=0 gap @0-10-10\n"
     "N lost 3\n"
     "A 200 OK 1 length=2 fields=1 kept=0 duration=0 @30-30\n"
     "B a x\n"
     "Q GET /1 1 host=(none) length=-1 fields=0 @40-40\n"
     "B a y\n"
     "D kept=0 status=200 q=0 a=2 @0-30-50\n"
     "D kept=1 status=0 q=0 a=0 gap @40-0-60\n"
     "Q GET /2 1 host=(none) length=-1 fields=0 @60-60\n"
     "D kept=2 status=0 q=0 a=0 gap @60-0-60\n"
     "A 200 OK 1 length=0 fields=1 kept=0 duration=0 @70-70\n"
     "D kept=0 status=200 q=0 a=0 @0-70-70\n"},
    {"a late HEAD, and an answer in chunks",
     false,
     {A("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), Q("HEAD /1 HTTP/1.1\r\n\r\n"),
      Q("GET /2 HTTP/1.1\r\n\r\n"), A("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntwo")},
     "A 200 OK 1 length=-1 fields=1 kept=0 duration=0 early @10-10\n"
     "Q HEAD /1 1 host=(none) length=-1 fields=0 answer=early-1 @20-20\n"
     "D kept=1 status=200 q=0 a=0 complete @20-10-20\n"
     "Q GET /2 1 host=(none) length=-1 fields=0 @30-30\n"
     "A 200 OK 1 length=3 fields=1 kept=2 duration=10 @40-40\n"
     "B a two\n"
     "D kept=2 status=200 q=0 a=3 complete @30-40-40\n"},
    {"a late HEAD, and an answer without length",
     false,
     {A("HTTP/1.1 200 OK\r\n\r\n"), Q("HEAD /1 HTTP/1.1\r\n\r\n"), Q("GET /2 HTTP/1.1\r\n\r\n"),
      A("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntwo")},
     "A 200 OK 1 length=-1 fields=0 kept=0 duration=0 early @10-10\n"
     "Q HEAD /1 1 host=(none) length=-1 fields=0 answer=early-1 @20-20\n"
     "D kept=1 status=200 q=0 a=0 complete @20-10-20\n"
     "Q GET /2 1 host=(none) length=-1 fields=0 @30-30\n"
     "A 200 OK 1 length=3 fields=1 kept=2 duration=10 @40-40\n"
     "B a two\n"
     "D kept=2 status=200 q=0 a=3 complete @30-40-40\n"},
    {"a late GET",
     false,
     {A("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"), Q("GET /1 HTTP/1.1\r\n\r\n"), A("one"),
      Q("GET /2 HTTP/1.1\r\n\r\n"), A("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntwo")},
     "A 200 OK 1 length=3 fields=1 kept=0 duration=0 early @10-10\n"
     "Q GET /1 1 host=(none) length=-1 fields=0 answer=early-1 @20-20\n"
     "B a one\n"
     "D kept=1 status=200 q=0 a=3 complete @20-10-30\n"
     "Q GET /2 1 host=(none) length=-1 fields=0 @40-40\n"
     "A 200 OK 1 length=3 fields=1 kept=2 duration=10 @50-50\n"
     "B a two\n"
     "D kept=2 status=200 q=0 a=3 complete @40-50-50\n"},
    {"a late HEAD, behind which a body has begun after all",
     false,
     {A("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\no"), Q("HEAD /1 HTTP/1.1\r\n\r\n"), A("ne"),
      Q("GET /2 HTTP/1.1\r\n\r\n"), A("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntwo")},
     "A 200 OK 1 length=3 fields=1 kept=0 duration=0 early @10-10\n"
     "B a o\n"
     "Q HEAD /1 1 host=(none) length=-1 fields=0 answer=early-1 @20-20\n"
     "B a ne\n"
     "D kept=1 status=200 q=0 a=3 complete @20-10-30\n"
     "Q GET /2 1 host=(none) length=-1 fields=0 @40-40\n"
     "A 200 OK 1 length=3 fields=1 kept=2 duration=10 @50-50\n"
     "B a two\n"
     "D kept=2 status=200 q=0 a=3 complete @40-50-50\n"},
    {"LF alone behind the data of a chunk",
     false,
     {Q("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\n0\r\n\r\n"),
      A("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")},
     "Q POST / 1 host=(none) length=-1 fields=1 @10-10\n"
     "B q x\n"
     "A 200 OK 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=200 q=1 a=0 complete odd=20 @10-20-20\n"},
    {"CONNECT answered while it has a body",
     false,
     {Q("CONNECT h:1 HTTP/1.1\r\nContent-Length: 3\r\n\r\na"), A("HTTP/1.1 200 OK\r\n\r\nx"), Q("bcd"), QEND},
     "Q CONNECT h:1 1 host=(none) length=3 fields=1 @10-10\n"
     "B q a\n"
     "A 200 OK 1 length=-1 fields=0 kept=1 duration=10 @20-20\n"
     "U (none) kept=1\n"
     "R a x\n"
     "B q bc\n"
     "D kept=1 status=200 q=3 a=0 complete @10-20-20\n"
     "R q d\n"},
    {"a 101 that nobody asked for, during a request",
     false,
     {Q("GET /1 HTTP/1.1\r\n\r\nPOST /2 HTTP/1.1\r\nContent-Length: 5\r\n\r\nab"),
      A("HTTP/1.1 101 x\r\nUpgrade: h2c\r\n\r\n"), Q("cde")},
     "Q GET /1 1 host=(none) length=-1 fields=0 @10-10\n"
     "Q POST /2 1 host=(none) length=5 fields=1 @10-10\n"
     "B q ab\n"
     "A 101 x 1 length=-1 fields=1 kept=1 duration=10 @20-20\n"
     "U h2c kept=1\n"
     "D kept=2 status=0 q=2 a=0 @10-0-20\n"
     "R q cde\n"},
    {"a 101 that nobody asked for, during a head",
     false,
     {Q("GET /1 HTTP/1.1\r\n\r\nPOST /2 HT"), A("HTTP/1.1 101 x\r\n\r\n"), Q("cde")},
     "Q GET /1 1 host=(none) length=-1 fields=0 @10-10\n"
     "A 101 x 1 length=-1 fields=0 kept=1 duration=10 @20-20\n"
     "U  kept=1\n"
     "D kept=1 status=101 q=0 a=0 complete @10-20-20\n"
     "R q POST /2 HTcde\n"},
    {"upgrades whose answers can no longer be waited for",
     false,
     {Q("GET /1 HTTP/1.1\r\nUpgrade: x\r\n\r\nGET /2 HTTP/1.1\r\nUpgrade: x\r\n\r\nGET /3 HTTP/1.1\r\n\r\n"), QEND,
      A("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 "
        "OK\r\nContent-Length: 0\r\n\r\n")},
     "Q GET /1 1 host=(none) length=-1 fields=1 @10-10\n"
     "Q GET /2 1 host=(none) length=-1 fields=1 @10-10\n"
     "Q GET /3 1 host=(none) length=-1 fields=0 @10-10\n"
     "A 200 OK 1 length=0 fields=1 kept=1 duration=20 @30-30\n"
     "D kept=1 status=200 q=0 a=0 complete @10-30-30\n"
     "A 200 OK 1 length=0 fields=1 kept=2 duration=20 @30-30\n"
     "D kept=2 status=200 q=0 a=0 complete @10-30-30\n"
     "A 200 OK 1 length=0 fields=1 kept=3 duration=20 @30-30\n"
     "D kept=3 status=200 q=0 a=0 complete @10-30-30\n"},
    {"NUL in a start line",
     false,
     {Q("GET /\0 HTTP/1.1\r\n\r\n"), A("HTTP/1.1 200 \0\r\nContent-Length: 0\r\n\r\n")},
     "Q GET /~ 1 host=(none) length=-1 fields=0 odd=40 @10-10\n"
     "A 200 ~ 1 length=0 fields=1 odd=40 kept=1 duration=10 @20-20\n"
     "D kept=1 status=200 q=0 a=0 complete odd=40 @10-20-20\n"},
    {"a chunk size of 16 digits",
     false,
     {Q("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0000000000000001\r\nx\r\n0\r\n\r\n"),
      A("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")},
     "Q POST / 1 host=(none) length=-1 fields=1 @10-10\n"
     "B q x\n"
     "A 200 OK 1 length=0 fields=1 kept=1 duration=10 @20-20\n"
     "D kept=1 status=200 q=1 a=0 complete @10-20-20\n"},
    {"joined between messages",
     true,
     {Q("GET /1 HTTP/1.1\r\n\r\n"), A("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1"), Q("GET /2 HTTP/1.1\r\n\r\n"),
      Q("GET /3 HTTP/1.1\r\n\r\n"),
      A("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n3")},
     "Q GET /1 1 host=(none) length=-1 fields=0 @10-10\n"
     "A 200 OK 1 length=1 fields=1 kept=1 duration=10 @20-20\n"
     "B a 1\n"
     "D kept=1 status=200 q=0 a=1 complete @10-20-20\n"
     "Q GET /2 1 host=(none) length=-1 fields=0 @30-30\n"
     "Q GET /3 1 host=(none) length=-1 fields=0 @40-40\n"
     "A 200 OK 1 length=1 fields=1 kept=2 duration=20 @50-50\n"
     "B a 2\n"
     "D kept=2 status=200 q=0 a=1 complete @30-50-50\n"
     "A 200 OK 1 length=1 fields=1 kept=3 duration=10 @50-50\n"
     "B a 3\n"
     "D kept=3 status=200 q=0 a=1 complete @40-50-50\n"},
    {"joined within a response",
     true,
     {A("of the page\r\nHTTP/1.1 is a protocol\r\n\r\n"), Q("GET /2 HTTP/1.1\r\n\r\n"),
      A("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2")},
     "N joined 0\n"
     "Q GET /2 1 host=(none) length=-1 fields=0 @20-20\n"
     "A 200 OK 1 length=1 fields=1 kept=1 duration=10 @30-30\n"
     "B a 2\n"
     "D kept=1 status=200 q=0 a=1 complete @20-30-30\n"},
    {"joined before a response",
     true,
     {A("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1"), Q("GET /2 HTTP/1.1\r\n\r\n"),
      A("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2")},
     "A 200 OK 1 length=1 fields=1 kept=0 duration=0 @10-10\n"
     "B a 1\n"
     "D kept=0 status=200 q=0 a=1 @0-10-10\n"
     "Q GET /2 1 host=(none) length=-1 fields=0 @20-20\n"
     "A 200 OK 1 length=1 fields=1 kept=1 duration=10 @30-30\n"
     "B a 2\n"
     "D kept=1 status=200 q=0 a=1 complete @20-30-30\n"},
    {"joined within a request",
     true,
     {Q("en\r\n\r\nGET /2 HTTP/1.1\r\n\r\n"), AGAP(3)},
     "N joined 0\n"
     "Q GET /2 1 host=(none) length=-1 fields=0 @10-10\n"
     "D kept=1 status=0 q=0 a=0 @10-0-1000\n"},
};

static uint64_t random_state = 1;

static uint64_t random_below(uint64_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % n;
}

/* How a conversation is cut: one place in its bytes, pieces of a size, or pieces of random size. */
struct cut {
    size_t at, size, random;
};

static size_t piece(const struct cut *cut, size_t total, size_t left)
{
    size_t n = left;

    if (cut->at > total && cut->at < total + left)
        n = cut->at - total;
    else if (cut->size && cut->size < left)
        n = cut->size;
    else if (cut->random)
        n = 1 + random_below(cut->random);
    return n < left ? n : left;
}

/* What is told of the conversation, to be freed. */
static char *run(const struct conversation *c, const struct cut *cut, enum proto_dir requests)
{
    struct http1_log l = {.swapped = requests};
    struct http1 *h = http1_new(&http1_log_sink, &l, c->joined);
    size_t total = 0;
    char *text;

    for (unsigned i = 0; i < STEPS && c->steps[i].what != NOTHING; i++) {
        const struct step *s = &c->steps[i];
        uint64_t now = i * 10 + 10;
        enum proto_dir dir =
            s->what == REQUEST || s->what == REQUEST_GAP || s->what == REQUEST_END ? requests : proto_other(requests);

        if (s->what == REQUEST_END || s->what == RESPONSE_END) {
            http1_end(h, dir, now);
            continue;
        }
        for (size_t at = 0, n; at < s->len; at += n, total += n) {
            char *bytes = NULL;

            n = piece(cut, total, s->len - at);
            if (s->bytes) /* a copy of that size, for AddressSanitizer */
                bytes = xmemdup(s->bytes + at, n);
            http1_feed(h, dir, (const uint8_t *)bytes, n, now);
            free(bytes);
        }
    }
    http1_free(h, 1000);
    log_text(&l);
    text = l.text.p;
    assert_int_equal(l.done + l.handed_over, l.requests);
    assert_true(l.unasked_done <= l.unasked); /* a request may have been told later */
    return text;
}

static size_t length(const struct conversation *c)
{
    size_t total = 0;

    for (unsigned i = 0; i < STEPS; i++)
        total += c->steps[i].len;
    return total;
}

static void same(const struct conversation *c, const struct cut *cut)
{
    for (enum proto_dir requests = PROTO_RX; requests <= PROTO_TX; requests++) {
        char *told = run(c, cut, requests);

        if (strcmp(told, c->told)) {
            print_error("%s (cut at %zu, size %zu, random %zu), told:\n%sshould be:\n%s", c->name, cut->at, cut->size,
                        cut->random, told, c->told);
            fail();
        }
        free(told);
    }
}

static void tells_conversations(void **state)
{
    for (size_t i = 0; i < sizeof(conversations) / sizeof(conversations[0]); i++) {
        const struct conversation *c = &conversations[i];

        same(c, &(struct cut){0});
        same(c, &(struct cut){.size = 1});
        for (size_t at = 1; at < length(c); at++)
            same(c, &(struct cut){.at = at});
        for (size_t n = 2; n < 40; n += 3)
            same(c, &(struct cut){.random = n});
    }
}

/* Feeds what isn't in the table, in pieces of that size (0: whole); what is told, to be freed. */
static char *run_pair(const struct buf *request, const struct buf *response, size_t size)
{
    const struct conversation c = {
        .steps = {{REQUEST, request->p, request->len}, {RESPONSE, response->p, response->len}}};

    return run(&c, &(struct cut){.size = size}, PROTO_TX);
}

static void check_pair(struct buf *request, const char *response, const char *const *told)
{
    struct buf answer = BUF_INIT;
    char *whole, *pieces;

    buf_str(&answer, response);
    whole = run_pair(request, &answer, 0);
    for (; *told; told++)
        if (!strstr(whole, *told)) {
            print_error("told:\n%swithout:\n%s", whole, *told);
            fail();
        }
    for (size_t size = 1; size < 70000; size = size * 5 + 2) {
        pieces = run_pair(request, &answer, size);
        assert_string_equal(pieces, whole);
        free(pieces);
    }
    free(whole);
    buf_free(&answer);
    buf_free(request);
}

#define OK_EMPTY "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

static void fill(struct buf *b, char c, size_t n)
{
    memset(buf_room(b, n), c, n);
    b->len += n;
}

static void many_fields_are_cut(void **state)
{
    struct buf request = BUF_INIT;

    buf_str(&request, "POST / HTTP/1.1\r\nHost: a\r\n");
    for (unsigned i = 1; i < HTTP_FIELDS_MAX; i++)
        buf_printf(&request, "X-%u: %u\r\n", i, i);
    buf_str(&request, "X: one too many\r\n and its fold\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n");
    check_pair(
        &request, OK_EMPTY,
        (const char *const[]){"Q POST / 1 host=a length=3 fields=256 odd=10 cut @10-10\nB q abc\nQ GET / ", NULL});
}

static void long_heads_are_cut_but_framed(void **state)
{
    static const struct {
        const char *before, *behind, *body, *told[4];
    } cases[] = {
        {"", "Content-Length: 2\r\n", "ab", {"length=2 ", " cut @10-10\nB q ab\nQ GET /2"}},
        {"Content-Length: 7\r\n",
         "Transfer-Encoding: gzip,\r\n\tchunked\r\n",
         "3\r\n2:f\r\n0\r\n\r\n",
         {"length=7 ", " odd=12 cut @10-10\nB q 2:f\nQ GET /2"}},
        {"Content-Length: 2\r\n", "Content-Length: 3\r\n", "ab", {"length=-1 ", " odd=1 cut @10-10\nB q abGET /2"}},
        {"Transfer-Encoding: gzip\r\n",
         "Content-Length : 2\r\nno field\r\n",
         "ab",
         {"length=2 ", " odd=e cut @10-10\nB q abGET /2"}},
    };

    /* Whatever the cut hits: a line end, a name, a value. */
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        for (unsigned shift = 0; shift < 28; shift++) {
            struct buf request = BUF_INIT;

            buf_str(&request, "POST / HTTP/1.1\r\n");
            buf_str(&request, cases[i].before);
            buf_str(&request, "Big: ");
            fill(&request, 'x', HTTP_HEAD_MAX - request.len - shift);
            buf_str(&request, "\r\n");
            buf_str(&request, cases[i].behind);
            if (shift % 2) { /* more than is looked at of a line */
                buf_str(&request, "Y: ");
                fill(&request, 'y', 900 + shift);
                buf_str(&request, "\r\n");
            }
            buf_str(&request, "Z: z\r\n\r\n");
            buf_str(&request, cases[i].body);
            buf_str(&request, "GET /2 HTTP/1.1\r\n\r\n");
            check_pair(&request, OK_EMPTY, cases[i].told);
        }
}

static void start_lines_beyond_the_bound(void **state)
{
    for (unsigned shift = 0; shift < 28; shift++) {
        struct buf request = BUF_INIT, other = BUF_INIT, response = BUF_INIT;

        buf_str(&request, "GET /");
        fill(&request, 't', HTTP_HEAD_MAX - shift);
        buf_add(&other, request.p, request.len);
        buf_str(&request, " HTTP/1.0\r\nContent-Length: 1\r\n\r\nbGET /2 HTTP/1.1\r\n\r\n");
        check_pair(&request, OK_EMPTY,
                   (const char *const[]){"Q GET /ttttt",
                                         " 0 host=(none) length=1 fields=", " cut @10-10\nB q b\nQ GET /2", NULL});
        buf_str(&other, " HTTP/2.0\r\n\r\n");
        check_pair(&other, OK_EMPTY, (const char *const[]){"N not-http 0\n", NULL});

        buf_str(&request, "GET / HTTP/1.1\r\n\r\n");
        buf_str(&response, "HTTP/1.1 200 ");
        fill(&response, 'r', HTTP_HEAD_MAX - shift);
        buf_str(&response, "\r\nContent-Length: 1\r\n\r\nx");
        check_pair(&request, buf_cstr(&response),
                   (const char *const[]){"A 200 rrr", "length=1 fields=", " cut kept=1 ", "B a x\nD kept=1 status=200 ",
                                         NULL});
        buf_free(&response);
    }
}

/* What is allocated, in bytes. */
static size_t allocated(void)
{
#ifdef __SANITIZE_ADDRESS__
    extern size_t __sanitizer_get_current_allocated_bytes(void);

    return __sanitizer_get_current_allocated_bytes();
#else
    return mallinfo2().uordblks;
#endif
}

static void feed_text(struct http1 *h, enum proto_dir dir, const char *text)
{
    http1_feed(h, dir, (const uint8_t *)text, strlen(text), 10);
}

static void idle_connections_are_small(void **state)
{
    static const struct http_sink nothing;
    enum { COUNT = 100 };
    struct http1 *h[COUNT];
    size_t before = allocated();

    for (int i = 0; i < COUNT; i++) {
        h[i] = http1_new(&nothing, NULL, i % 2);
        /* Has had heads in pieces, a long one among them, a pipeline, and what was held. */
        for (int round = 0; round < 2; round++) {
            feed_text(h[i], PROTO_TX, "GET / HTTP/1.1\r\nHo");
            for (int k = 0; k < 9000; k++)
                feed_text(h[i], PROTO_TX, "st: aaa\r\n");
            feed_text(h[i], PROTO_TX, "\r\nGET / HTTP/1.1\r\nUpgrade: x\r\n\r\nGET / HTTP/1.1\r\n\r\n");
            feed_text(h[i], PROTO_RX, "HTTP/1.1 200 OK\r\nConten");
            feed_text(h[i], PROTO_RX, "t-Length: 0\r\n\r\n" OK_EMPTY OK_EMPTY);
        }
    }
    assert_in_range(allocated() - before, 1, COUNT * 512);
    for (int i = 0; i < COUNT; i++)
        http1_free(h[i], 20);
    assert_in_range(allocated(), before, before);
}

/* Heads without end, lines without end, requests without answers: memory stays bounded. */
static void hostile_input_takes_bounded_memory(void **state)
{
    static const char *const begins[] = {
        "",
        "GET /",
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n",
        "GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n",
        "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;",
        "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
        "HTTP/1.1 200 ",
    };
    static const char *const goes_on[] = {
        "x", "a: b\r\n", " ", "\r\n", "\r1", "GET / HTTP/1.1\r\n\r\n", "0\n", "HTTP/1.1 200 OK\r\n\r\n"};
    static const struct http_sink nothing;

    for (size_t i = 0; i < sizeof(begins) / sizeof(begins[0]); i++)
        for (size_t k = 0; k < sizeof(goes_on) / sizeof(goes_on[0]); k++)
            for (int joined = 0; joined < 2; joined++) {
                size_t before = allocated(), most = 0;
                struct http1 *h = http1_new(&nothing, NULL, joined);

                feed_text(h, PROTO_TX, begins[i]);
                for (int n = 0; n < 30000; n++) {
                    feed_text(h, PROTO_TX, goes_on[k]);
                    most = allocated() - before > most ? allocated() - before : most;
                }
                /* The text doubles: twice the largest head while it is copied, and HTTP1_OUTSTANDING_MAX exchanges. */
                assert_in_range(most, 1, 2 * HTTP_HEAD_MAX + HTTP1_OUTSTANDING_MAX * 192 + 4096);
                http1_free(h, 20);
                assert_in_range(allocated(), before, before);
            }
}

/* Half a megabyte in pieces of one byte, where a decoder could look again and again at what it has. */
static void single_bytes_take_linear_time(void **state)
{
    static const char *const begins[] = {"GET /", "GET / HTTP/1.1\r\nA: ", "GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n",
                                         "GE"};
    static const struct http_sink nothing;

    for (size_t i = 0; i < sizeof(begins) / sizeof(begins[0]); i++)
        for (int joined = 0; joined < 2; joined++) {
            struct http1 *h = http1_new(&nothing, NULL, joined);
            clock_t start = clock();

            feed_text(h, PROTO_TX, begins[i]);
            for (int n = 0; n < 500000; n++)
                feed_text(h, PROTO_TX, "a");
            http1_free(h, 20);
            /* 10 ms; looking at 64 KiB for each byte took half a minute. */
            assert_in_range(clock() - start, 0, 4 * CLOCKS_PER_SEC);
        }
}

/* A piece of half a megabyte that a decoder could look through again and again. */
static void large_pieces_take_linear_time(void **state)
{
    static const char *const begins[] = {"", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n",
                                         "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;",
                                         "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"};
    static const char *const fills[] = {"\r", "\n", "\rx", "a:\r\n", "GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n"};
    static const struct http_sink nothing;

    for (size_t i = 0; i < sizeof(begins) / sizeof(begins[0]); i++)
        for (size_t k = 0; k < sizeof(fills) / sizeof(fills[0]); k++)
            for (int joined = 0; joined < 2; joined++) {
                struct http1 *h = http1_new(&nothing, NULL, joined);
                struct buf text = BUF_INIT;
                clock_t start;

                while (text.len < 500000)
                    buf_str(&text, fills[k]);
                start = clock();
                feed_text(h, PROTO_TX, begins[i]);
                http1_feed(h, PROTO_TX, (const uint8_t *)text.p, text.len, 10);
                feed_text(h, PROTO_RX, OK_EMPTY OK_EMPTY OK_EMPTY);
                http1_free(h, 20);
                assert_in_range(clock() - start, 0, 2 * CLOCKS_PER_SEC);
                buf_free(&text);
            }
}

static void too_many_requests_are_forgotten(void **state)
{
    struct http1_log l = {.swapped = PROTO_TX};
    struct http1 *h = http1_new(&http1_log_sink, &l, false);

    for (unsigned i = 0; i < HTTP1_OUTSTANDING_MAX + 10; i++)
        feed_text(h, PROTO_TX, "GET / HTTP/1.1\r\n\r\n");
    assert_int_equal(l.requests, HTTP1_OUTSTANDING_MAX + 10);
    assert_int_equal(l.done, HTTP1_OUTSTANDING_MAX + 10); /* the last ones without hope */
    assert_non_null(strstr(log_text(&l), "N unmatched 1024\nQ GET / "));
    feed_text(h, PROTO_RX, OK_EMPTY);
    assert_non_null(strstr(log_text(&l), "A 200 OK 1 length=0 fields=1 kept=0 "));
    http1_free(h, 20);
    buf_free(&l.text);
}

static void any_depth_of_pipeline_pairs(void **state)
{
    struct http1_log l = {.swapped = PROTO_TX};
    struct http1 *h = http1_new(&http1_log_sink, &l, false);
    struct buf text = BUF_INIT;

    for (unsigned i = 1; i <= HTTP1_OUTSTANDING_MAX; i++) {
        buf_reset(&text);
        buf_printf(&text, "%s /%u HTTP/1.1\r\n\r\n", i % 3 ? "GET" : "HEAD", i);
        feed_text(h, PROTO_TX, buf_cstr(&text));
    }
    buf_reset(&text);
    for (unsigned i = 1; i <= HTTP1_OUTSTANDING_MAX; i++)
        buf_printf(&text, "HTTP/1.1 200 %u\r\nContent-Length: 1\r\n\r\n%s", i, i % 3 ? "x" : "");
    feed_text(h, PROTO_RX, buf_cstr(&text));
    for (unsigned i = 1; i <= HTTP1_OUTSTANDING_MAX; i++) {
        buf_reset(&text);
        buf_printf(&text, "A 200 %u 1 length=1 fields=1 kept=%u ", i, i);
        assert_non_null(strstr(log_text(&l), buf_cstr(&text)));
    }
    assert_int_equal(l.done, HTTP1_OUTSTANDING_MAX);
    http1_free(h, 20);
    buf_free(&l.text);
    buf_free(&text);
}

/* What is kept of a line that may be a beginning must not hide the beginning that a piece is. */
static void finds_the_step_at_the_beginning_of_a_piece(void **state)
{
    static const struct {
        const char *pieces[4];
        unsigned size; /* of the first one, filled up; 0: as it is */
        uint64_t lost;
    } cases[] = {
        {{"some text", "GET / HT", "TP/1.1\r\n", "\r\n"}, 0, 9},
        {{"text", "GET / HTTP/1.1\r\n\r\n"}, 0, 4},
        {{"GET ", "GET / HT", "GET / HTTP/1.1\r\n\r\n"}, 0, 12},
        {{"GET ", "GET / HTTP/1.1\r\n\r\n"}, HTTP_HEAD_MAX - 2, HTTP_HEAD_MAX - 2},
        {{"GET ", "GET / HTTP/1.1\r\n\r\n"}, HTTP_HEAD_MAX + 2, HTTP_HEAD_MAX + 2},
        {{"HTTP/1.1 200 OK\r\n", "GET / HTTP/1.1\r\n\r\n"}, 0, 17},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct http1_log l = {.swapped = PROTO_TX};
        struct http1 *h = http1_new(&http1_log_sink, &l, false);
        struct buf first = BUF_INIT, told = BUF_INIT;

        feed_text(h, PROTO_TX, "GET / HTTP/1.1\r\n\r\n");
        feed_text(h, PROTO_RX, OK_EMPTY);
        http1_feed(h, PROTO_TX, NULL, 1, 10);
        buf_str(&first, cases[i].pieces[0]);
        if (cases[i].size)
            fill(&first, 'x', cases[i].size - first.len);
        feed_text(h, PROTO_TX, buf_cstr(&first));
        for (size_t k = 1; k < 4 && cases[i].pieces[k]; k++)
            feed_text(h, PROTO_TX, cases[i].pieces[k]);
        buf_printf(&told, "\nN lost %" PRIu64 "\nQ GET / 1 ", cases[i].lost + 1);
        assert_non_null(strstr(log_text(&l), buf_cstr(&told)));
        http1_free(h, 30);
        buf_free(&first);
        buf_free(&told);
        buf_free(&l.text);
    }
}

/* More than is held behind an upgrade is taken for requests; the answer counts nevertheless. */
static void holding_is_bounded(void **state)
{
    for (int upgraded = 0; upgraded < 2; upgraded++) {
        struct http1_log l = {.swapped = PROTO_TX, .no_bodies = true};
        struct http1 *h = http1_new(&http1_log_sink, &l, false);
        struct buf held = BUF_INIT;

        buf_str(&held, "POST /2 HTTP/1.1\r\nContent-Length: 70000\r\n\r\n");
        fill(&held, 'x', HTTP_HEAD_MAX);
        feed_text(h, PROTO_TX, "GET /1 HTTP/1.1\r\nUpgrade: x\r\n\r\n");
        for (size_t at = 0; at < held.len; at += 1000)
            http1_feed(h, PROTO_TX, (const uint8_t *)held.p + at, held.len - at < 1000 ? held.len - at : 1000, 20);
        assert_non_null(strstr(log_text(&l), "Q POST /2 1 host=(none) length=70000 fields=1 @20-20\n"));
        feed_text(h, PROTO_RX, upgraded ? "HTTP/1.1 101 x\r\nUpgrade: x\r\n\r\n" : OK_EMPTY);
        feed_text(h, PROTO_TX, "rest");
        http1_free(h, 30);
        if (upgraded)
            assert_non_null(strstr(log_text(&l), "U x kept=1\nD kept=1 status=101 q=0 a=0 complete @10-10-10\n"
                                                 "D kept=2 status=0 q=65536 a=0 @20-0-10\nR q rest\n"));
        else
            assert_non_null(strstr(log_text(&l), "D kept=1 status=200 q=0 a=0 complete @10-10-10\n"
                                                 "D kept=2 status=0 q=65540 a=0 @20-0-30\n"));
        buf_free(&held);
        buf_free(&l.text);
    }
}

static void fields_are_told_as_sent(void **state)
{
    struct http1_log l = {.swapped = PROTO_TX, .fields = true};
    struct http1 *h = http1_new(&http1_log_sink, &l, false);

    feed_text(h, PROTO_TX,
              "GET http://a/ HTTP/1.1\r\nhOST:a \r\nX-Two: 1\r\nx-two:\t 2\r\nFold: a\r\n  b\r\nNone:\r\n\r\n");
    assert_string_equal(log_text(&l), "Q GET http://a/ 1 host=a length=-1 fields=5 odd=10 @10-10\n"
                                      "  hOST=a\n  X-Two=1\n  x-two=2\n  Fold=a\r\n  b\n  None=\n");
    http1_free(h, 20);
    buf_free(&l.text);
}

static void heads_say_when_they_passed(void **state)
{
    struct http1_log l = {.swapped = PROTO_TX};
    struct http1 *h = http1_new(&http1_log_sink, &l, false);

    http1_feed(h, PROTO_TX, (const uint8_t *)"\r\n", 2, 10);
    http1_feed(h, PROTO_TX, (const uint8_t *)"GET / HT", 8, 20);
    http1_feed(h, PROTO_TX, (const uint8_t *)"TP/1.1\r\n\r\n", 10, 30);
    http1_feed(h, PROTO_RX, (const uint8_t *)"HTTP/1.1 200 OK\r\n", 17, 70);
    http1_feed(h, PROTO_RX, (const uint8_t *)"Content-Length: 2\r\n\r\n1", 22, 80);
    http1_feed(h, PROTO_RX, (const uint8_t *)"2", 1, 90);
    assert_string_equal(log_text(&l), "Q GET / 1 host=(none) length=-1 fields=0 @20-30\n"
                                      "A 200 OK 1 length=2 fields=1 kept=1 duration=50 @70-80\n"
                                      "B a 12\n"
                                      "D kept=1 status=200 q=0 a=2 complete @20-70-90\n");
    http1_free(h, 100);
    buf_free(&l.text);
}

static void says_what_it_does_not_need(void **state)
{
    static const struct {
        enum proto_dir dir;
        const char *bytes;
        uint64_t skip;
    } steps[] = {
        {PROTO_RX, "", 0},
        {PROTO_RX, "POST / HTTP/1.1\r\nContent-Length: 9223372036854775807\r\n", 0},
        {PROTO_RX, "\r\n", INT64_MAX},
        {PROTO_RX, "12345", INT64_MAX - 5},
        {PROTO_TX, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 0},
        {PROTO_TX, "7fffffffffffffff", 0},
        {PROTO_TX, "\r\n", INT64_MAX},
    };
    static const struct http_sink nothing;
    struct http1 *h = http1_new(&nothing, NULL, false);

    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        feed_text(h, steps[i].dir, steps[i].bytes);
        assert_true(http1_skip(h, steps[i].dir) == steps[i].skip);
    }
    http1_feed(h, PROTO_TX, NULL, INT64_MAX - 1, 10);
    assert_true(http1_skip(h, PROTO_TX) == 1);
    feed_text(h, PROTO_TX, "x");
    assert_true(http1_skip(h, PROTO_TX) == 0);
    feed_text(h, PROTO_TX, "\r\n0\r\n\r\n");
    http1_feed(h, PROTO_RX, NULL, INT64_MAX - 5, 10);
    feed_text(h, PROTO_RX, "GET / HTTP/1.1\r\n\r\n");
    feed_text(h, PROTO_TX, "HTTP/1.1 200 OK\r\n\r\n");
    assert_true(http1_skip(h, PROTO_TX) == UINT64_MAX);
    http1_end(h, PROTO_TX, 10);
    assert_true(http1_skip(h, PROTO_TX) == UINT64_MAX);
    feed_text(h, PROTO_RX, "no HTTP\r\n");
    assert_true(http1_skip(h, PROTO_RX) == UINT64_MAX);
    http1_free(h, 20);
    h = http1_new(&nothing, NULL, false);
    feed_text(h, PROTO_TX, "PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 10000\r\n\r\n");
    assert_true(http1_skip(h, PROTO_TX) == 0); /* it may be another request that comes */
    feed_text(h, PROTO_RX, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    assert_true(http1_skip(h, PROTO_RX) == 5);
    feed_text(h, PROTO_TX, "x");
    assert_true(http1_skip(h, PROTO_TX) == 9999);
    http1_free(h, 20);
}

static void detects(void **state)
{
    static const struct {
        const char *bytes;
        int can_be; /* once all of them are there */
    } cases[] = {
        {"GET / HTTP/1.1\r\n", 1},
        {"GET / HTTP/1.0\n", 1},
        {"\r\n\r\nOPTIONS * HTTP/1.1\r\n", 1},
        {"M-SEARCH * HTTP/1.1\r\n", 1},
        {"CONNECT [::1]:443 HTTP/1.1\r\n", 1},
        {"HTTP/1.1 200", 1},
        {"HTTP/1.0 301 Moved Permanently\r\n", 1},
        {"", -1},
        {"\r\n", -1},
        {"G", -1},
        {"GET /index", -1},
        {"HTTP/1.1 2", -1},
        {"HTTP", -1},
        {"get key\r\n", 0},
        {"GET key\r\n", 0},
        {"PING\r", 0},
        {"*1\r\n$4\r\nPING\r\n", 0},
        {"220 mail ESMTP\r\n", 0},
        {"EHLO example.org\r\n", 0},
        {"OPTIONS rtsp://a RTSP/1.0\r\n", 0},
        {"INVITE sip:a@b SIP/2.0\r\n", 0},
        {"HTTP/2 200\r\n", 0},
        {"HTTP/1.1 20x", 0},
        {"RTSP/1.0 200 OK\r\n", 0},
        {"PRI * HTTP/2.0\r\n", 0},
        {"\x16\x03\x01", 0},
        {"SSH-2.0-OpenSSH_9.2\r\n", 0},
        {"GET / HTTP/1.1 or so\r\n", 0},
    };
    struct buf text = BUF_INIT;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t len = strlen(cases[i].bytes);
        int last = -1;

        for (size_t n = 0; n <= len; n++) { /* and never takes back what it said */
            int now = http1_detect((const uint8_t *)cases[i].bytes, n);

            assert_true(last < 0 || now == last);
            last = now;
        }
        assert_int_equal(last, cases[i].can_be);
    }
    buf_str(&text, "GET /");
    fill(&text, 'x', HTTP1_DETECT_MAX);
    assert_int_equal(http1_detect((const uint8_t *)text.p, text.len), 1);
    text.p[0] = 'B';
    assert_int_equal(http1_detect((const uint8_t *)text.p, text.len), 0);
    buf_free(&text);
}

static void a_sink_may_be_empty(void **state)
{
    static const struct http_sink nothing;

    for (size_t i = 0; i < sizeof(conversations) / sizeof(conversations[0]); i++) {
        struct http1 *h = http1_new(&nothing, NULL, conversations[i].joined);

        for (unsigned k = 0; k < STEPS; k++)
            http1_feed(h, conversations[i].steps[k].what % 2, (const uint8_t *)conversations[i].steps[k].bytes,
                       conversations[i].steps[k].len, k);
        http1_free(h, 1000);
    }
    http1_free(NULL, 0);
}

static void names_statuses(void **state)
{
    unsigned count = 0;

    for (unsigned status = 0; status < 2000; status++)
        count += http_status_text(status) != NULL;
    assert_int_equal(count, 5 + 10 + 8 + 28 + 11);
    assert_string_equal(http_status_text(100), "Continue");
    assert_string_equal(http_status_text(226), "IM Used");
    assert_string_equal(http_status_text(308), "Permanent Redirect");
    assert_string_equal(http_status_text(413), "Content Too Large");
    assert_string_equal(http_status_text(421), "Misdirected Request");
    assert_string_equal(http_status_text(426), "Upgrade Required");
    assert_string_equal(http_status_text(429), "Too Many Requests");
    assert_string_equal(http_status_text(451), "Unavailable For Legal Reasons");
    assert_string_equal(http_status_text(511), "Network Authentication Required");
    assert_null(http_status_text(99));
    assert_null(http_status_text(418));
    assert_null(http_status_text(512));
    assert_null(http_status_text(600));
    assert_null(http_status_text(UINT32_MAX));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_conversations),
        cmocka_unit_test(many_fields_are_cut),
        cmocka_unit_test(long_heads_are_cut_but_framed),
        cmocka_unit_test(start_lines_beyond_the_bound),
        cmocka_unit_test(idle_connections_are_small),
        cmocka_unit_test(hostile_input_takes_bounded_memory),
        cmocka_unit_test(single_bytes_take_linear_time),
        cmocka_unit_test(large_pieces_take_linear_time),
        cmocka_unit_test(too_many_requests_are_forgotten),
        cmocka_unit_test(any_depth_of_pipeline_pairs),
        cmocka_unit_test(holding_is_bounded),
        cmocka_unit_test(finds_the_step_at_the_beginning_of_a_piece),
        cmocka_unit_test(fields_are_told_as_sent),
        cmocka_unit_test(heads_say_when_they_passed),
        cmocka_unit_test(says_what_it_does_not_need),
        cmocka_unit_test(detects),
        cmocka_unit_test(a_sink_may_be_empty),
        cmocka_unit_test(names_statuses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
