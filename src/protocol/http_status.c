/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/http.h"

/* Hypertext Transfer Protocol (HTTP) Status Code Registry, https://www.iana.org/assignments/http-status-codes. What it
 * lists as unused (306, 418) has no phrase; 104 is registered temporarily. */
static const char *const informational[] = {"Continue", "Switching Protocols", "Processing", "Early Hints",
                                            "Upload Resumption Supported"};
static const char *const successful[] = {
    "OK",
    "Created",
    "Accepted",
    "Non-Authoritative Information",
    "No Content",
    "Reset Content",
    "Partial Content",
    "Multi-Status",
    "Already Reported",
    [26] = "IM Used",
};
static const char *const redirection[] = {
    "Multiple Choices",         "Moved Permanently",  "Found", "See Other", "Not Modified", "Use Proxy",
    [7] = "Temporary Redirect", "Permanent Redirect",
};
static const char *const client_error[] = {
    "Bad Request",
    "Unauthorized",
    "Payment Required",
    "Forbidden",
    "Not Found",
    "Method Not Allowed",
    "Not Acceptable",
    "Proxy Authentication Required",
    "Request Timeout",
    "Conflict",
    "Gone",
    "Length Required",
    "Precondition Failed",
    "Content Too Large",
    "URI Too Long",
    "Unsupported Media Type",
    "Range Not Satisfiable",
    "Expectation Failed",
    [21] = "Misdirected Request",
    "Unprocessable Content",
    "Locked",
    "Failed Dependency",
    "Too Early",
    "Upgrade Required",
    [28] = "Precondition Required",
    "Too Many Requests",
    [31] = "Request Header Fields Too Large",
    [51] = "Unavailable For Legal Reasons",
};
static const char *const server_error[] = {
    "Internal Server Error",
    "Not Implemented",
    "Bad Gateway",
    "Service Unavailable",
    "Gateway Timeout",
    "HTTP Version Not Supported",
    "Variant Also Negotiates",
    "Insufficient Storage",
    "Loop Detected",
    [10] = "Not Extended",
    "Network Authentication Required",
};

#define CLASS(table) \
    { \
        table, sizeof(table) / sizeof((table)[0]) \
    }

const char *http_status_text(unsigned status)
{
    static const struct {
        const char *const *phrases;
        size_t count;
    } classes[] = {CLASS(informational), CLASS(successful), CLASS(redirection), CLASS(client_error),
                   CLASS(server_error)};
    unsigned class = status / 100 - 1; /* 0 to 99 wrap around */

    if (class >= sizeof(classes) / sizeof(classes[0]) || status % 100 >= classes[class].count)
        return NULL;
    return classes[class].phrases[status % 100];
}
