/* SPDX-License-Identifier: Apache-2.0 */
#include "jsse.h"

#include "classfile.h"
#include "functions.h"
#include "jni.h"
#include "ring.h"
#include "wire/source.h"

#define HIDDEN __attribute__((visibility("hidden")))
#define PIECE 8192u         /* on the stack; HotSpot has some 80 KiB left in native methods (StackShadowPages) */
#define BUFFERS 32          /* of one call: what is in more is told as a gap */
#define GREETINGS 8u        /* of an engine that was open before: one of them will be seen on its socket, too */
#define FRAME_REFS 65536    /* as many as the VM grants (MaxJNILocalCapacity) */
#define TLS_HANDSHAKE 22    /* ContentType, RFC 8446, section 5.1 */
#define TLS_DATA 23
#define HELPER "appscope/probe/Jsse"
#define ENGINE "sun/security/ssl/SSLEngineImpl"
#define SSL_SOCKET "Lsun/security/ssl/SSLSocketImpl;"
#define SOCKET_IMPL "Ljava/net/SocketImpl;"
#define ARRAY "[Ljava/nio/ByteBuffer;II"
/* Whatever SSLContext a program makes is one of this class, before it has a connection. */
#define FIRST_USED "Lsun/security/ssl/SSLContextImpl;"

/* How far we are. Who changes it makes it BUSY first, alone. */
static enum state {
    OFF,
    BUSY,
    WAITING,  /* for the first SSLContext: JVM TI tells when its class is prepared */
    ON,       /* the classes are rewritten */
    BACK,     /* ... were, and have been put back */
    REFUSED,  /* for good: something isn't as it should be */
} state;

static struct {
    jvmti_env ti;
    void *monitor;     /* whoever gives objects their identity */
    jobject class[3];  /* of `targets` */
    bool found[3];     /* by the rewriter, in this round */
    bool refused;      /* see refuse() */
    bool live;         /* what is told counts: from before the first rewritten method can run */
    jni_env learner;   /* calls Net_pollinValue, to learn where that is: */
    uint64_t event;
    bool held;         /* our code stays */
} java;

static struct jvmti_callbacks callbacks;

/* ---- the classes ---- */

/* aload_0, aload_1, iload_2, iload_3, aload 4, iload 5, iload 6, iconst_N: an engine, and what it was called with */
#define PUSH_CALL(wrap) 0x2a, 0x2b, 0x1c, 0x1d, 0x19, 4, 0x15, 5, 0x15, 6, 3 + (wrap)
#define ENTER {"enter", "(Ljava/lang/Object;" ARRAY ARRAY "I)V"
#define LEAVE {"leave", "(Ljava/lang/Object;Ljava/lang/Object;" ARRAY ARRAY "I)V"
#define RESULT ")Ljavax/net/ssl/SSLEngineResult;"

/* dup, aload_0, aload_1, iload_2: the result, the stream, the array, the offset */
static const struct class_site in_sites[] = {
    {"read", "([BII)I", {0}, {"read", "(ILjava/lang/Object;[BI)V", {0x59, 0x2a, 0x2b, 0x1c}, 4, 4}}};
/* aload_0, aload_1, iload_2, iload_3 */
static const struct class_site out_sites[] = {
    {"write", "([BII)V", {0}, {"write", "(Ljava/lang/Object;[BII)V", {0x2a, 0x2b, 0x1c, 0x1d}, 4, 4}}};
static const struct class_site engine_sites[] = {
    {"wrap", "(" ARRAY ARRAY RESULT, ENTER, {PUSH_CALL(1)}, 11, 8}, LEAVE, {0x59, PUSH_CALL(1)}, 12, 9}},
    {"unwrap", "(" ARRAY ARRAY RESULT, ENTER, {PUSH_CALL(0)}, 11, 8}, LEAVE, {0x59, PUSH_CALL(0)}, 12, 9}}};

static const struct target {
    const char *name; /* internal, and as Java has it */
    const char *java;
    const struct class_site *sites;
    unsigned count;
} targets[3] = {
    {"sun/security/ssl/SSLSocketImpl$AppInputStream", "sun.security.ssl.SSLSocketImpl$AppInputStream", in_sites, 1},
    {"sun/security/ssl/SSLSocketImpl$AppOutputStream", "sun.security.ssl.SSLSocketImpl$AppOutputStream", out_sites, 1},
    {ENGINE, "sun.security.ssl.SSLEngineImpl", engine_sites, 2},
};

static const struct class_call *const calls[] = {&in_sites[0].leave, &out_sites[0].leave, &engine_sites[0].enter,
                                                 &engine_sites[0].leave};
#define CALLS 4

/* About to be taken out, or out already: whoever still comes here tells nothing. */
static bool gone(void)
{
    return *(volatile bool *)&probe.off || *(volatile bool *)&probe.leaving;
}

static enum state state_now(void)
{
    return __atomic_load_n(&state, __ATOMIC_ACQUIRE);
}

static bool take_turn(enum state was)
{
    return __atomic_compare_exchange_n(&state, &was, BUSY, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

static void end_turn(enum state is)
{
    __atomic_store_n(&state, is, __ATOMIC_RELEASE);
}

/* Not one of ours may be left behind: the program would get it. */
static bool failed(jni_env env)
{
    if (!(*env)->ExceptionCheck(env))
        return false;
    (*env)->ExceptionClear(env);
    return true;
}

/* Something that all versions known have isn't there: nothing more is told, by nobody. Classes that are rewritten already
 * are put back by the next call of ours. */
static void refuse(const char *what)
{
    struct segment_header *s = functions_telling();
    bool first = !__atomic_exchange_n(&java.refused, true, __ATOMIC_ACQ_REL);

    __atomic_store_n(&java.live, false, __ATOMIC_RELAXED);
    if (state_now() != ON)
        end_turn(REFUSED);
    if (first && s)
        ring_note(s, NOTE_JSSE, what, 0);
}

/* ---- what an object is known by ---- */

/* Of an SSLSocketImpl or SSLEngineImpl; its address is the object's tag, and what is told stands under. */
struct connection {
    uint32_t greetings;         /* records whose first encrypted bytes were told; GREETINGS: no more are needed */
    struct {
        int32_t count, position[BUFFERS];
    } side[2];                  /* of buffers of plaintext, when unwrap (0), wrap (1) was entered */
};

/* One thread at a time gives an object its tag: a reader and a writer may meet a new socket at once. NULL: no memory. */
static struct connection *connection_of(struct segment_header *s, jobject object)
{
    jvmti_env ti = java.ti;
    int64_t tag = 0;
    uint8_t *memory;

    if ((*ti)->GetTag(ti, object, &tag) == 0 && tag)
        return (struct connection *)tag;
    if ((*ti)->RawMonitorEnter(ti, java.monitor))
        return NULL;
    if ((*ti)->GetTag(ti, object, &tag) == 0 && !tag && (*ti)->Allocate(ti, sizeof(struct connection), &memory) == 0) {
        memset(memory, 0, sizeof(struct connection));
        function_other(s, (uint64_t)memory, true);
        if ((*ti)->SetTag(ti, object, (int64_t)(uint64_t)memory) == 0)
            tag = (int64_t)(uint64_t)memory;
        else
            (*ti)->Deallocate(ti, memory);
    }
    (*ti)->RawMonitorExit(ti, java.monitor);
    return (struct connection *)tag;
}

static void object_free(jvmti_env ti, int64_t tag)
{
    struct segment_header *s = gone() ? NULL : functions_telling();

    if (s)
        function_other(s, (uint64_t)tag, false);
    (*ti)->Deallocate(ti, (uint8_t *)tag);
}

/* ---- fields ---- */

static struct {
    jobject in_socket, out_socket;          /* this$0 of the streams */
    jobject self, impl, delegate, descriptor, fd;
    jobject position, array, offset;
    jobject consumed, produced;
    jobject delegating;                     /* the class java.net.DelegatingSocketImpl */
} field;

/* Looked up once, when an object has it: so no class is begun for us that the program has not begun. class: by name, or
 * NULL, that of the object. */
static bool find(jni_env env, jobject *id, const char *class, jobject object, const char *name, const char *type)
{
    jobject c;

    if (__atomic_load_n(id, __ATOMIC_RELAXED))
        return true;
    c = class ? (*env)->FindClass(env, class) : (*env)->GetObjectClass(env, object);
    if (c) {
        __atomic_store_n(id, (*env)->GetFieldID(env, c, name, type), __ATOMIC_RELAXED);
        if (failed(env))
            __atomic_store_n(id, NULL, __ATOMIC_RELAXED);
        (*env)->DeleteLocalRef(env, c);
    }
    failed(env);
    return __atomic_load_n(id, __ATOMIC_RELAXED) != NULL;
}

static bool find_buffer(jni_env env)
{
    return find(env, &field.position, "java/nio/Buffer", NULL, "position", "I") &&
           find(env, &field.array, "java/nio/ByteBuffer", NULL, "hb", "[B") &&
           find(env, &field.offset, "java/nio/ByteBuffer", NULL, "offset", "I");
}

/* ---- which socket: of an SSLSocket ---- */

/* Where a SocketImpl keeps its own, with others inside (java.net.DelegatingSocketImpl, since 12). A new reference, and
 * the given one is gone. */
static jobject innermost(jni_env env, jobject impl)
{
    jobject c = (*env)->FindClass(env, "java/net/DelegatingSocketImpl"); /* before 12 there is none */

    if (failed(env) || !c)
        return impl;
    for (int depth = 0; depth < 4 && impl && (*env)->IsInstanceOf(env, impl, c); depth++) {
        jobject inner = find(env, &field.delegate, "java/net/DelegatingSocketImpl", NULL, "delegate", SOCKET_IMPL)
                            ? (*env)->GetObjectField(env, impl, field.delegate)
                            : NULL;

        (*env)->DeleteLocalRef(env, impl);
        impl = inner;
    }
    (*env)->DeleteLocalRef(env, c);
    return impl;
}

/* By fields alone: no code of the program's runs. -1: not known. */
static int descriptor_of(jni_env env, jobject ssl)
{
    jobject socket, impl = NULL, d = NULL;
    int fd = -1;

    if (!find(env, &field.self, NULL, ssl, "self", "Ljava/net/Socket;") ||
        !find(env, &field.impl, "java/net/Socket", NULL, "impl", SOCKET_IMPL) ||
        !find(env, &field.descriptor, "java/net/SocketImpl", NULL, "fd", "Ljava/io/FileDescriptor;") ||
        !find(env, &field.fd, "java/io/FileDescriptor", NULL, "fd", "I"))
        return -1;
    socket = (*env)->GetObjectField(env, ssl, field.self);
    if (socket)
        impl = (*env)->GetObjectField(env, socket, field.impl);
    if (impl)
        impl = innermost(env, impl);
    if (impl)
        d = (*env)->GetObjectField(env, impl, field.descriptor);
    if (d)
        fd = (*env)->GetIntField(env, d, field.fd);
    (*env)->DeleteLocalRef(env, d);
    (*env)->DeleteLocalRef(env, impl);
    (*env)->DeleteLocalRef(env, socket);
    return fd;
}

/* ---- telling ---- */

/* n bytes of an array or, that being NULL, memory; what can't be read is a gap. */
static void tell(jni_env env, struct segment_header *s, uint64_t object, enum data_source source, jobject array,
                 const char *memory, int32_t from, int32_t n)
{
    char piece[PIECE];

    while (n > 0) {
        int32_t part = MIN(n, (int32_t)PIECE);

        if (array)
            (*env)->GetByteArrayRegion(env, array, from, part, piece);
        if (array ? failed(env) : !memory || !mem_readable(memory + from, (size_t)part)) {
            function_tell(s, source, DATA_WAY_JSSE, object, n, NULL);
            return;
        }
        function_tell(s, source, DATA_WAY_JSSE, object, part, array ? piece : memory + from);
        from += part;
        n -= part;
    }
}

/* The same of a ByteBuffer, from a position on. */
static void tell_buffer(jni_env env, struct segment_header *s, uint64_t object, enum data_source source, jobject buffer,
                        int32_t from, int32_t n)
{
    jobject array = (*env)->GetObjectField(env, buffer, field.array);
    const char *memory = NULL;

    if (array)
        from += (*env)->GetIntField(env, buffer, field.offset);
    else if (from >= 0 && (*env)->GetDirectBufferCapacity(env, buffer) >= (int64_t)from + n)
        memory = (*env)->GetDirectBufferAddress(env, buffer);
    tell(env, s, object, source, array, memory, from, n);
    (*env)->DeleteLocalRef(env, array);
}

static void put_back(jni_env env);

/* The segment to tell to. NULL: nothing shall be told. */
static struct segment_header *telling(jni_env env)
{
    if (unlikely(gone() || __atomic_load_n(&java.refused, __ATOMIC_RELAXED))) {
        put_back(env);
        return NULL;
    }
    return __atomic_load_n(&java.live, __ATOMIC_RELAXED) ? functions_telling() : NULL;
}

/* A stream of an SSLSocket has passed n bytes of an array. */
static void stream_passed(jni_env env, jobject *id, jobject stream, enum data_source source, jobject array, int32_t from,
                          int32_t n)
{
    struct segment_header *s = n > 0 ? telling(env) : NULL;
    struct connection *c;
    uint64_t object;
    jobject ssl;

    if (!s)
        return;
    if (!find(env, id, NULL, stream, "this$0", SSL_SOCKET)) {
        refuse("SSLSocketImpl");
        return;
    }
    ssl = (*env)->GetObjectField(env, stream, *id);
    c = ssl ? connection_of(s, ssl) : NULL;
    object = (uint64_t)c;
    if (c && function_wanted(s, object)) {
        if (!function_has_socket(s, object))
            function_uses(s, object, descriptor_of(env, ssl));
        tell(env, s, object, source, array, NULL, from, n);
    }
    (*env)->DeleteLocalRef(env, ssl);
}

/* ---- the native methods of the helper ---- */

static void native_read(jni_env env, jobject class, int32_t n, jobject stream, jobject array, int32_t from)
{
    (void)class;
    stream_passed(env, &field.in_socket, stream, DATA_TLS_RX, array, from, n);
}

static void native_write(jni_env env, jobject class, jobject stream, jobject array, int32_t from, int32_t n)
{
    (void)class;
    stream_passed(env, &field.out_socket, stream, DATA_TLS_TX, array, from, n);
}

/* An engine is about to move bytes: which belong to it is known afterwards, by how far its buffers have come. Kept by
 * engine and direction, not by thread: a virtual thread may go on at another one. */
static void native_enter(jni_env env, jobject class, jobject engine, jobject src, int32_t src_at, int32_t src_count,
                         jobject dst, int32_t dst_at, int32_t dst_count, int32_t wrap)
{
    struct segment_header *s = telling(env);
    struct connection *c = s ? connection_of(s, engine) : NULL;
    jobject array = wrap ? src : dst;
    int32_t at = wrap ? src_at : dst_at, count = wrap ? src_count : dst_count;

    (void)class;
    if (!c)
        return;
    if (!find_buffer(env)) {
        refuse("ByteBuffer");
        return;
    }
    c->side[wrap].count = 0;
    for (int32_t i = 0; array && i < MIN(count, BUFFERS); i++) {
        jobject b = (*env)->GetObjectArrayElement(env, array, at + i);

        if (failed(env) || !b) /* the call will say so */
            return;
        c->side[wrap].position[i] = (*env)->GetIntField(env, b, field.position);
        c->side[wrap].count = i + 1;
        (*env)->DeleteLocalRef(env, b);
    }
}

/* The first encrypted bytes of an engine, a ClientHello's, or of records of data, if it was there before us: by them its socket
 * is found. A buffer has passed n of them. */
static void greet(jni_env env, struct segment_header *s, struct connection *c, jobject buffers, int32_t at, int32_t n,
                  bool sends)
{
    jobject b = (*env)->GetObjectArrayElement(env, buffers, at), array;
    char hello[DATA_HELLO_BYTES];
    const char *memory = NULL;
    int32_t from;

    if (failed(env) || !b)
        return;
    from = (*env)->GetIntField(env, b, field.position) - n;
    array = (*env)->GetObjectField(env, b, field.array);
    if (array) {
        (*env)->GetByteArrayRegion(env, array, (*env)->GetIntField(env, b, field.offset) + from, sizeof(hello), hello);
        memory = failed(env) ? NULL : hello;
    } else if (from >= 0 && (*env)->GetDirectBufferCapacity(env, b) >= from + (int64_t)sizeof(hello)) {
        memory = (*env)->GetDirectBufferAddress(env, b);
        memory = memory && mem_readable(memory + from, sizeof(hello)) ? memory + from : NULL;
    }
    if (memory && (*memory == TLS_HANDSHAKE || *memory == TLS_DATA)) {
        function_hello(s, (uint64_t)c, sends, memory);
        c->greetings = *memory == TLS_HANDSHAKE ? GREETINGS : c->greetings + 1;
    }
    (*env)->DeleteLocalRef(env, array);
    (*env)->DeleteLocalRef(env, b);
}

static void native_leave(jni_env env, jobject class, jobject result, jobject engine, jobject src, int32_t src_at,
                         int32_t src_count, jobject dst, int32_t dst_at, int32_t dst_count, int32_t wrap)
{
    struct segment_header *s = result ? telling(env) : NULL;
    struct connection *c = s ? connection_of(s, engine) : NULL;
    enum data_source source = wrap ? DATA_TLS_TX : DATA_TLS_RX;
    uint64_t object = (uint64_t)c;
    int32_t plain, cipher, at = wrap ? src_at : dst_at;

    (void)class, (void)src_count, (void)dst_count;
    if (!c)
        return;
    if (!find(env, &field.consumed, NULL, result, "bytesConsumed", "I") ||
        !find(env, &field.produced, NULL, result, "bytesProduced", "I") || !find_buffer(env)) {
        refuse("SSLEngineResult");
        return;
    }
    plain = (*env)->GetIntField(env, result, wrap ? field.consumed : field.produced);
    cipher = (*env)->GetIntField(env, result, wrap ? field.produced : field.consumed);
    if (c->greetings < GREETINGS && cipher >= (int32_t)DATA_HELLO_BYTES)
        greet(env, s, c, wrap ? dst : src, wrap ? dst_at : src_at, cipher, wrap);
    if (plain <= 0 || !function_wanted(s, object))
        return;
    for (int32_t i = 0; plain > 0 && i < c->side[wrap].count; i++) {
        jobject b = (*env)->GetObjectArrayElement(env, wrap ? src : dst, at + i);
        int32_t from = c->side[wrap].position[i], n;

        if (failed(env) || !b)
            break;
        n = MIN((*env)->GetIntField(env, b, field.position) - from, plain);
        if (n > 0) {
            tell_buffer(env, s, object, source, b, from, n);
            plain -= n;
        }
        (*env)->DeleteLocalRef(env, b);
    }
    if (plain > 0) /* that call began before, or had more buffers */
        function_tell(s, source, DATA_WAY_JSSE, object, plain, NULL);
}

/* In the order of `calls`. */
static void *const natives[CALLS] = {(void *)native_read, (void *)native_write, (void *)native_enter, (void *)native_leave};

/* ---- putting the calls in, and taking them out ---- */

/* The VM asks what to make of a class: as it loads one, or as we have it look at ours again. */
static void class_file(jvmti_env ti, jni_env env, jobject redefined, jobject loader, const char *name, jobject domain,
                       int32_t size, const uint8_t *bytes, int32_t *new_size, uint8_t **new_bytes)
{
    const int64_t room = (int64_t)size + size / 2 + 4096;
    uint8_t *out, *scratch;
    size_t n;

    (void)env, (void)domain;
    if (!redefined || loader || !name || size <= 0 || gone())
        return;
    for (unsigned i = 0; i < 3; i++) {
        if (!str_eq(name, targets[i].name) || (*ti)->Allocate(ti, room, &out))
            continue;
        n = 0;
        if ((*ti)->Allocate(ti, sizeof(struct class_scratch), &scratch) == 0) {
            n = class_rewrite(bytes, (size_t)size, HELPER, targets[i].sites, targets[i].count, NULL,
                              (struct class_scratch *)(void *)scratch, out, (size_t)room);
            (*ti)->Deallocate(ti, scratch);
        }
        java.found[i] = n != 0;
        if (n) {
            *new_size = (int32_t)n;
            *new_bytes = out;
        } else {
            (*ti)->Deallocate(ti, out);
        }
    }
}

/* The class with our native methods, in a package and a module of its own. NULL: refused. */
static jobject make_helper(jni_env env)
{
    struct jni_native native[CALLS];
    uint8_t bytes[1024];
    size_t n = class_make(HELPER, calls, CALLS, bytes, sizeof(bytes));
    jobject c = n ? (*env)->DefineClass(env, HELPER, NULL, bytes, (int32_t)n) : NULL;

    if (failed(env) || !c) /* a probe that was here before has made it */
        c = (*env)->FindClass(env, HELPER);
    for (unsigned i = 0; i < CALLS; i++)
        native[i] = (struct jni_native){calls[i]->name, calls[i]->type, natives[i]};
    if (failed(env) || !c || (*env)->RegisterNatives(env, c, native, CALLS) || failed(env))
        return NULL;
    return c;
}

/* Those of java.base may call it. */
static bool let_read(jni_env env, jobject helper)
{
    jobject object = (*env)->FindClass(env, "java/lang/Object");
    jobject base = object ? (*env)->GetModule(env, object) : NULL, own = base ? (*env)->GetModule(env, helper) : NULL;

    return !failed(env) && own && (*java.ti)->AddModuleReads(java.ti, base, own) == 0;
}

/* A class of the VM's own, loaded if it wasn't, but not initialised: that would be noticed. A global reference; it goes
 * through the class loader's own method, as no other way is there. NULL: there is none. */
static jobject find_class(jni_env env, const char *name)
{
    jobject loader = (*env)->FindClass(env, "java/lang/ClassLoader"), method, c = NULL;
    union jvalue arg;

    if (failed(env) || !loader)
        return NULL;
    method = (*env)->GetStaticMethodID(env, loader, "findBootstrapClassOrNull", "(Ljava/lang/String;)Ljava/lang/Class;");
    if (failed(env) || !method)
        return NULL;
    arg.l = (*env)->NewStringUTF(env, name);
    if (arg.l)
        c = (*env)->CallStaticObjectMethodA(env, loader, method, &arg);
    return failed(env) || !c ? NULL : (*env)->NewGlobalRef(env, c);
}

/* Has the VM look at the classes again, with our changes or without. */
static int32_t look_again(bool ours)
{
    jvmti_env ti = java.ti;
    int32_t error = ours ? (*ti)->SetEventNotificationMode(ti, JVMTI_ENABLE, JVMTI_CLASS_FILE_LOAD, NULL) : 0;

    for (unsigned i = 0; i < 3; i++)
        java.found[i] = false;
    if (!error)
        error = (*ti)->RetransformClasses(ti, 3, java.class);
    if (ours)
        (*ti)->SetEventNotificationMode(ti, JVMTI_DISABLE, JVMTI_CLASS_FILE_LOAD, NULL);
    return error;
}

/* All of them, or none. */
static const char *rewrite(jni_env env)
{
    jobject helper = make_helper(env);

    if (!helper)
        return "helper";
    if (!let_read(env, helper))
        return "module";
    for (unsigned i = 0; i < 3; i++)
        if (!java.class[i] && !(java.class[i] = find_class(env, targets[i].java)))
            return targets[i].java;
    if (!java.held)
        functions_hold(true); /* for good: from now on the VM may come to our code at any time */
    java.held = true;
    callbacks.class_file = class_file;
    callbacks.object_free = object_free;
    if ((*java.ti)->SetEventCallbacks(java.ti, &callbacks, sizeof(callbacks)))
        return "JVM TI";
    __atomic_store_n(&java.live, true, __ATOMIC_RELAXED);
    if (look_again(true))
        return "RetransformClasses";
    for (unsigned i = 0; i < 3; i++)
        if (!java.found[i]) {
            const char *why = targets[i].java;

            look_again(false);
            return why;
        }
    (*java.ti)->SetEventNotificationMode(java.ti, JVMTI_ENABLE, JVMTI_OBJECT_FREE, NULL);
    return NULL;
}

/* The program is going to use TLS; the turn is ours. */
static void put_in(jni_env env)
{
    const char *why = "memory";

    if ((*env)->PushLocalFrame(env, FRAME_REFS) == 0) {
        why = rewrite(env);
        (*env)->PopLocalFrame(env, NULL);
    }
    failed(env);
    (*java.ti)->SetEventNotificationMode(java.ti, JVMTI_DISABLE, JVMTI_CLASS_PREPARE, NULL);
    if (why)
        refuse(why);
    else
        end_turn(ON);
}

static void put_back(jni_env env)
{
    if (state_now() != ON || !take_turn(ON))
        return;
    __atomic_store_n(&java.live, false, __ATOMIC_RELAXED);
    look_again(false);
    (*java.ti)->SetEventNotificationMode(java.ti, JVMTI_DISABLE, JVMTI_OBJECT_FREE, NULL);
    failed(env);
    end_turn(java.refused ? REFUSED : BACK);
}

static bool is_first_used(jvmti_env ti, jobject class)
{
    char *name;
    bool is;

    if ((*ti)->GetClassSignature(ti, class, &name, NULL))
        return false;
    is = str_eq(name, FIRST_USED);
    (*ti)->Deallocate(ti, (uint8_t *)name);
    return is;
}

/* Whether the class is there already: we have come later. */
static bool is_used(jvmti_env ti)
{
    jobject *classes;
    int32_t count;
    bool found = false;

    if ((*ti)->GetClassLoaderClasses(ti, NULL, &count, &classes))
        return false;
    for (int32_t i = 0; i < count && !found; i++)
        found = is_first_used(ti, classes[i]);
    (*ti)->Deallocate(ti, (uint8_t *)classes);
    return found;
}

/* Others have the same functions, and other insides. */
static bool is_hotspot(jvmti_env ti)
{
    char *name;
    bool is;

    if ((*ti)->GetSystemProperty(ti, "java.vm.name", &name))
        return false;
    is = str_contains(name, "HotSpot") || str_contains(name, "OpenJDK");
    (*ti)->Deallocate(ti, (uint8_t *)name);
    return is;
}

/*
 * Where the VM tells of classes. Not in our code: nobody could ever know that no thread of the VM is about to go there, and
 * it would have to stay for good in each program that uses the network. But in a native method of the class library that
 * does nothing with what it is given, and that is hooked as others are. By calling it we learn where it is. False: it isn't
 * as it should be.
 */
static bool learn(jni_env env)
{
    jobject class = (*env)->FindClass(env, "sun/nio/ch/Net"), method;

    if (failed(env) || !class)
        return false;
    method = (*env)->GetStaticMethodID(env, class, "pollinValue", "()S");
    if (failed(env) || !method)
        return false;
    java.event = 0;
    java.learner = env;
    (*env)->CallStaticShortMethodA(env, class, method, NULL);
    java.learner = NULL;
    return !failed(env) && java.event;
}

/* An environment of JVM TI of our own. The state that follows. */
static enum state begin(jni_env env)
{
    static const struct jvmti_capabilities wanted = {
        {1u << JVMTI_CAN_TAG,
         1u << (JVMTI_CAN_TELL_FREE - 32) | 1u << (JVMTI_CAN_RETRANSFORM - 32) | 1u << (JVMTI_CAN_RETRANSFORM_ANY - 32)}};
    java_vm vm;
    int32_t phase;
    jvmti_env ti;

    if ((*env)->GetJavaVM(env, &vm) || (*vm)->GetEnv(vm, (void **)&ti, JVMTI_VERSION_9))
        return REFUSED;
    if ((*ti)->GetPhase(ti, &phase) || phase != JVMTI_PHASE_LIVE) { /* so early (a debugger's agent) nothing is granted */
        (*ti)->DisposeEnvironment(ti);
        return OFF;
    }
    callbacks = (struct jvmti_callbacks){.class_prepared = learn(env) ? java.event : 0};
    if (!callbacks.class_prepared || !is_hotspot(ti) || (*ti)->AddCapabilities(ti, &wanted) ||
        (*ti)->CreateRawMonitor(ti, "scope", &java.monitor) ||
        (*ti)->SetEventCallbacks(ti, &callbacks, sizeof(callbacks)) ||
        (*ti)->SetEventNotificationMode(ti, JVMTI_ENABLE, JVMTI_CLASS_PREPARE, NULL)) {
        (*ti)->DisposeEnvironment(ti);
        return REFUSED;
    }
    java.ti = ti;
    return WAITING;
}

/* Whether this is a JNIEnv *: a program may have functions that are called like those of the class library. */
static bool is_env(jni_env env)
{
    return mem_readable((const void *)env, sizeof(*env)) && mem_readable(*env, sizeof(**env)) &&
           mem_plausible((const void *)(uint64_t)(*env)->GetVersion) && (*env)->GetVersion(env) >= JNI_VERSION_10;
}

static void come(jni_env env)
{
    enum state next;

    if (!ARCH_JSSE || !is_env(env) || (*env)->PushLocalFrame(env, FRAME_REFS)) {
        end_turn(REFUSED);
        return;
    }
    next = begin(env);
    end_turn(next);
    /* Told to be told first, then looked: whichever comes first has the turn. */
    if (next == WAITING && is_used(java.ti) && take_turn(WAITING))
        put_in(env);
    (*env)->PopLocalFrame(env, NULL);
    failed(env);
}

HIDDEN void jsse_network(void *env)
{
    enum state now = state_now();

    if (likely(now == ON || now == WAITING || now == REFUSED || now == BUSY)) {
        if (unlikely(now == ON && gone()))
            put_back(env);
        return;
    }
    if (gone() || !functions_telling() || !take_turn(now))
        return;
    functions_hold(true);
    if (now == OFF)
        come(env);
    else /* it was to be left, and stays after all */
        put_in(env);
    functions_hold(false);
}

HIDDEN void jsse_event(const struct function_regs *r, uint64_t at)
{
    jni_env env = (jni_env)r->arg1;

    if (java.learner && r->arg0 == (uint64_t)java.learner)
        java.event = at;
    if (state_now() != WAITING || r->arg0 != (uint64_t)java.ti || gone())
        return;
    functions_hold(true);
    if (is_first_used(java.ti, (jobject)r->arg3) && take_turn(WAITING))
        put_in(env);
    functions_hold(false);
}
