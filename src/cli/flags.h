/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SCOPE_CLI_FLAGS_H
#define SCOPE_CLI_FLAGS_H

/* What the options that name destinations say, as parts of a scope.yml that `scope service` and `scope k8s` write. Each
 * object is the caller's (json_decref). Texts stay as they were given: no variable is replaced in them when the file is
 * read. */

#include <jansson.h>

#include "config/config.h"

json_t *flags_text(const char *text);
json_t *flags_transport(const struct cfg_transport *t);
/* metric.format, of --metricformat and --metricprefix. */
json_t *flags_format(const struct config *c);

#endif
