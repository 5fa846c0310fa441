/* SPDX-License-Identifier: Apache-2.0 */
/* For dev/demo: sums up a list whose last element leads nowhere. */
#include <stdio.h>

struct item {
    const struct item *next;
    int price;
};

static int price(const struct item *i)
{
    return i->price;
}

static int total(const struct item *i, int items)
{
    int sum = 0;

    for (; items; items--, i = i->next)
        sum += price(i);
    return sum;
}

int main(void)
{
    static const struct item pear = {NULL, 2}, apple = {&pear, 1};

    printf("%d\n", total(&apple, 3));
    return 0;
}
