/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The little that is needed of JNI and JVM TI: both are tables of function
 * pointers, in an order that their specifications fix ("JNI Functions",
 * "JVM Tool Interface"; the numbers in brackets are theirs), so nothing has to be
 * linked. A function is called on a thread of the VM that is in native code, as
 * inside of a native method or a callback: never on another stack than its own.
 */
#ifndef SCOPE_PROBE_JNI_H
#define SCOPE_PROBE_JNI_H

#include <stdint.h>

typedef void *jobject; /* and classes, arrays, fields, methods */

union jvalue {
    int32_t i;
    int64_t j;
    jobject l;
};

struct jni_native {
    const char *name, *type;
    void *fn;
};

/* The table that a JNIEnv points to; a JNIEnv * is the first argument of every native method. */
typedef const struct jni *const *jni_env;
typedef const struct vm *const *java_vm;
struct jni {
    void *reserved[4];
    int32_t (*GetVersion)(jni_env);                                                    /* [4] */
    jobject (*DefineClass)(jni_env, const char *, jobject, const void *, int32_t);
    jobject (*FindClass)(jni_env, const char *);
    void *n7[17 - 7];
    void (*ExceptionClear)(jni_env);                                                   /* [17] */
    void *n18;
    int32_t (*PushLocalFrame)(jni_env, int32_t);
    jobject (*PopLocalFrame)(jni_env, jobject);
    jobject (*NewGlobalRef)(jni_env, jobject);                                         /* [21] */
    void *n22;
    void (*DeleteLocalRef)(jni_env, jobject);
    void *n24[31 - 24];
    jobject (*GetObjectClass)(jni_env, jobject);                                       /* [31] */
    uint8_t (*IsInstanceOf)(jni_env, jobject, jobject);
    void *n33[94 - 33];
    jobject (*GetFieldID)(jni_env, jobject, const char *, const char *);               /* [94] */
    jobject (*GetObjectField)(jni_env, jobject, jobject);
    void *n96[100 - 96];
    int32_t (*GetIntField)(jni_env, jobject, jobject);                                 /* [100] */
    void *n101[113 - 101];
    jobject (*GetStaticMethodID)(jni_env, jobject, const char *, const char *);        /* [113] */
    void *n114[116 - 114];
    jobject (*CallStaticObjectMethodA)(jni_env, jobject, jobject, const union jvalue *); /* [116] */
    void *n117[128 - 117];
    int16_t (*CallStaticShortMethodA)(jni_env, jobject, jobject, const union jvalue *); /* [128] */
    void *n129[167 - 129];
    jobject (*NewStringUTF)(jni_env, const char *);                                    /* [167] */
    void *n168[173 - 168];
    jobject (*GetObjectArrayElement)(jni_env, jobject, int32_t);                       /* [173] */
    void *n174[200 - 174];
    void (*GetByteArrayRegion)(jni_env, jobject, int32_t, int32_t, void *);            /* [200] */
    void *n201[215 - 201];
    int32_t (*RegisterNatives)(jni_env, jobject, const struct jni_native *, int32_t);  /* [215] */
    void *n216[219 - 216];
    int32_t (*GetJavaVM)(jni_env, java_vm *);                                          /* [219] */
    void *n220[228 - 220];
    uint8_t (*ExceptionCheck)(jni_env);                                                /* [228] */
    void *n229;
    void *(*GetDirectBufferAddress)(jni_env, jobject);
    int64_t (*GetDirectBufferCapacity)(jni_env, jobject);
    void *n232;
    jobject (*GetModule)(jni_env, jobject);                                            /* [233], since 9 */
};

struct vm {
    void *reserved[3];
    void *n3[6 - 3];
    int32_t (*GetEnv)(java_vm, void **, int32_t);                                      /* [6] */
};

#define JNI_VERSION_10 0x000a0000
#define JVMTI_VERSION_9 0x30090000

enum { JVMTI_DISABLE, JVMTI_ENABLE };
enum { JVMTI_PHASE_LIVE = 4 };
enum { JVMTI_CLASS_FILE_LOAD = 54, JVMTI_CLASS_PREPARE = 56, JVMTI_OBJECT_FREE = 83, JVMTI_FIRST = 50 };

/* By bits, of 128 */
#define JVMTI_CAN_TAG 0
#define JVMTI_CAN_TELL_FREE 32
#define JVMTI_CAN_RETRANSFORM 37
#define JVMTI_CAN_RETRANSFORM_ANY 38
struct jvmti_capabilities {
    uint32_t bits[4];
};

typedef const struct jvmti *const *jvmti_env;

/* By number - JVMTI_FIRST */
struct jvmti_callbacks {
    void *n50[JVMTI_CLASS_FILE_LOAD - JVMTI_FIRST];
    void (*class_file)(jvmti_env, jni_env, jobject redefined, jobject loader, const char *name, jobject domain, int32_t size,
                       const uint8_t *bytes, int32_t *new_size, uint8_t **new_bytes);
    void *n55;
    uint64_t class_prepared; /* (jvmti_env, jni_env, jobject thread, jobject class) */
    void *n57[JVMTI_OBJECT_FREE - JVMTI_CLASS_PREPARE - 1];
    void (*object_free)(jvmti_env, int64_t tag);
};

/* All return 0 or an error. The first is number 1. */
struct jvmti {
    void *n1;
    int32_t (*SetEventNotificationMode)(jvmti_env, int32_t mode, int32_t event, jobject thread, ...); /* [2] */
    void *n3[31 - 3];
    int32_t (*CreateRawMonitor)(jvmti_env, const char *, void **);                     /* [31] */
    void *n32;
    int32_t (*RawMonitorEnter)(jvmti_env, void *);
    int32_t (*RawMonitorExit)(jvmti_env, void *);
    void *n35[46 - 35];
    int32_t (*Allocate)(jvmti_env, int64_t, uint8_t **);                               /* [46] */
    int32_t (*Deallocate)(jvmti_env, uint8_t *);
    int32_t (*GetClassSignature)(jvmti_env, jobject, char **, char **);
    void *n49[79 - 49];
    int32_t (*GetClassLoaderClasses)(jvmti_env, jobject, int32_t *, jobject **);       /* [79] */
    void *n80[94 - 80];
    int32_t (*AddModuleReads)(jvmti_env, jobject, jobject);                            /* [94] */
    void *n95[106 - 95];
    int32_t (*GetTag)(jvmti_env, jobject, int64_t *);                                  /* [106] */
    int32_t (*SetTag)(jvmti_env, jobject, int64_t);
    void *n108[122 - 108];
    int32_t (*SetEventCallbacks)(jvmti_env, const struct jvmti_callbacks *, int32_t);  /* [122] */
    void *n123[127 - 123];
    int32_t (*DisposeEnvironment)(jvmti_env);                                          /* [127] */
    void *n128[131 - 128];
    int32_t (*GetSystemProperty)(jvmti_env, const char *, char **);                    /* [131] */
    void *n132;
    int32_t (*GetPhase)(jvmti_env, int32_t *);
    void *n134[142 - 134];
    int32_t (*AddCapabilities)(jvmti_env, const struct jvmti_capabilities *);          /* [142] */
    void *n143[152 - 143];
    int32_t (*RetransformClasses)(jvmti_env, int32_t, const jobject *);                /* [152] */
};

#endif
