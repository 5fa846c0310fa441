/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks that people have, and the commands for them: `scope help examples`. Tests run them as they are printed. */
#include "cli/cli.h"

#define LINES_MAX 3

static const struct task {
    const char *title;
    const char *line[LINES_MAX + 1];
} tasks[] = {
    {"A request fails: what was asked, and what was the answer?",
     {"scope curl -s http://localhost:8080/orders",
      "scope events -t http --fields http_method,http_target,http_status_code"}},
    {"Who writes this file, and how much?",
     {"scope ./app", "scope events -s fs.close -e '/app.log$/.test(data.file) && data.file_write_bytes' --fields "
                     "file,file_write_bytes"}},
    {"What does this installer do to my machine?", {"scope sh install.sh", "scope report --touched"}},
    {"Which names does it look up, and what is it told?",
     {"scope dig @localhost -p 5353 shop.example", "scope events -t dns --fields domain,qtype,rcode,addrs"}},
    {"It starts slowly: which of its processes takes the time?",
     {"scope ./app", "scope events -s proc.exit --sort duration -n 3 --fields duration,exit_code"}},
    {"Which configuration does it read?",
     {"scope ./app", "scope events -s fs.open -e '/[.]conf$/.test(data.file)' --fields file"}},
    {"What does it say over the network, also inside of TLS?",
     {"scope run --payloads -- curl -s http://localhost:8080/orders", "scope flows", "scope flows --out 1"}},
    {"Why did it crash, and where?", {"scope run --backtrace -- ./app", "scope crash"}},
    {"What does a program do that runs already?", {"scope attach app", "scope events -n 5", "scope detach app"}},
    {"Which files does it open most often? (Commands that show something have -j, for other tools.)",
     {"scope ./app", "scope events -a -j -s fs.open | jq -r .body.data.file | sort | uniq -c | sort -rn | head -3"}},
};

void help_examples(FILE *to)
{
    for (size_t i = 0; i < sizeof(tasks) / sizeof(*tasks); i++) {
        fprintf(to, "%s%s\n", i ? "\n" : "", tasks[i].title);
        for (const char *const *line = tasks[i].line; *line; line++)
            fprintf(to, "    %s\n", *line);
    }
}

void help_examples_markdown(FILE *to)
{
    for (size_t i = 0; i < sizeof(tasks) / sizeof(*tasks); i++) {
        fprintf(to, "%s\n\n", tasks[i].title);
        for (const char *const *line = tasks[i].line; *line; line++)
            fprintf(to, "    %s\n", *line);
        fputc('\n', to);
    }
}
