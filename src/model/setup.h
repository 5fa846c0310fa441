/* SPDX-License-Identifier: Apache-2.0 */
/* The model as a whole begins and ends. */
#ifndef SCOPE_MODEL_SETUP_H
#define SCOPE_MODEL_SETUP_H

struct model;
struct model_watch;

/* watch: stays the caller's, for as long as the model is there. */
void model_init(struct model *m, const struct model_watch *watch);
/* No process is left. */
void model_free(struct model *m);

#endif
