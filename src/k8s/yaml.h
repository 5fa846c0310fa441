/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SCOPE_K8S_YAML_H
#define SCOPE_K8S_YAML_H

#include <jansson.h>

#include "base/buf.h"

/* Appends a value as YAML 1.2 in block style, as people write manifests: members in their order, texts of several lines
 * as such (|), others quoted where they could be taken for something else. Lines end with a newline. */
void yaml_put(struct buf *b, const json_t *value);

#endif
