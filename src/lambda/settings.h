/* SPDX-License-Identifier: Apache-2.0 */
/* What is configured in an environment of AWS Lambda if nobody says otherwise: docs/lambda.md, "Configuration". */
#ifndef SCOPE_LAMBDA_SETTINGS_H
#define SCOPE_LAMBDA_SETTINGS_H

#include <stdbool.h>

#include "config/config.h"

/* The configuration of this environment (as environ(7)): what Lambda says about the function as tags and resource
 * attributes; the scope.yml of SCOPE_CONF_PATH, else of the function's package or of the usual places; variables.
 * Events without a destination go to standard output, which Lambda takes to CloudWatch; metrics without one are
 * switched off. Problems go to fn. The caller frees it with config_sources_free(). */
struct config_sources *lambda_config(const char *const *envp, cfg_problem_fn fn, void *ctx);

#endif
