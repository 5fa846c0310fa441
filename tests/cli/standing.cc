/* SPDX-License-Identifier: Apache-2.0 */
/* Stands below functions of namespaces, templates, and a lambda. */
#include <cstdio>
#include <string>
#include <unistd.h>

namespace place {
template <class T> struct Box {
    T v;
    __attribute__((noinline)) int hold(const std::string &s)
    {
        puts("ready");
        fflush(stdout);
        pause(); /* hold */
        return static_cast<int>(s.size() + v);
    }
};

static inline __attribute__((always_inline)) int twice(Box<double> &b, const std::string &s)
{
    return b.hold(s) * 2; /* twice */
}

struct Base {
    virtual ~Base() = default;
    virtual int work(int n) = 0;
};
struct Derived : Base {
    __attribute__((noinline)) int work(int n) override
    {
        Box<double> b{1.5};
        auto f = [&](int x) __attribute__((noinline)) {
            int r = twice(b, std::string(static_cast<size_t>(x), 'a')); /* lambda */
            return r + 1;
        };
        return f(n) + 1; /* work */
    }
};
} // namespace place

int main(int argc, char **)
{
    place::Derived d;
    place::Base *b = &d;

    return b->work(argc + 2) + 1; /* main */
}
