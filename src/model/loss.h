/* SPDX-License-Identifier: Apache-2.0 */
/* What could not be recorded, understood or delivered, by reason (docs/data-model.md, scope.lost). */
#ifndef SCOPE_MODEL_LOSS_H
#define SCOPE_MODEL_LOSS_H

enum loss_kind {
    LK_RECORD, LK_DATA, LK_CALL, LK_SLOT, LK_COPY, LK_TORN, LK_SEGMENT, LK_DESCRIPTOR, LK_QUEUE, LK_DESTINATION,
    LK_TRAFFIC, LK_MESSAGE, LK_PAYLOAD, LK_PAYLOAD_DESTINATION, LK_ANSWER, LK_MOVED, LK_SITE,
    LK_MAX
};

#endif
