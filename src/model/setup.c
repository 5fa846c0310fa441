/* SPDX-License-Identifier: Apache-2.0 */
#include "model/setup.h"

#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/mem.h"
#include "model/file.h"
#include "model/images.h"
#include "model/model.h"
#include "model/names.h"

void model_init(struct model *m, const struct model_watch *watch)
{
    *m = (struct model){.watch = watch, .diag_fd = -1};
    clock_init(&m->clock);
    if (getrandom(&m->seed, sizeof(m->seed), GRND_NONBLOCK) != sizeof(m->seed))
        m->seed = (uint32_t)clock_now_mono();
    m->last_channel = clock_now_real();
    for (int i = 0; i < 2; i++)
        m->scratch[i] = xmalloc(2 * NAME_BYTES);
}

void model_free(struct model *m)
{
    files_free(m);
    images_unref(m->hidden);
    images_unref(m->unread);
    for (int i = 0; i < 2; i++)
        free(m->scratch[i]);
    if (m->diag_fd >= 0)
        close(m->diag_fd);
}
