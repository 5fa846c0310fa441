/* SPDX-License-Identifier: Apache-2.0 */
/* Whether src/probe/jni.h has the functions where a JDK's own headers have them. Says which aren't. */
#include <jvmti.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* Names that both have */
#define jobject probe_jobject
#define jvalue probe_jvalue
#define JVMTI_DISABLE PROBE_DISABLE
#define JVMTI_ENABLE PROBE_ENABLE
#define JVMTI_PHASE_LIVE PROBE_PHASE_LIVE
#undef JVMTI_VERSION_9
#include "probe/jni.h"

#define AT(ours, theirs, member, name) {#name, offsetof(struct ours, member), offsetof(theirs, name)}
#define JNI(name) AT(jni, struct JNINativeInterface_, name, name)
#define TI(name) AT(jvmti, struct jvmtiInterface_1_, name, name)
#define BIT(number, name) {#name, number, bit(&(jvmtiCapabilities){.name = 1})}

static size_t bit(const jvmtiCapabilities *c)
{
    uint32_t words[4];
    size_t n = 0;

    memcpy(words, c, sizeof(words));
    while (n < 128 && !(words[n / 32] >> n % 32 & 1))
        n++;
    return n;
}

int main(void)
{
    const struct {
        const char *name;
        size_t ours, theirs;
    } all[] = {
        JNI(GetVersion), JNI(DefineClass), JNI(FindClass), JNI(ExceptionClear), JNI(PushLocalFrame), JNI(PopLocalFrame),
        JNI(NewGlobalRef), JNI(DeleteLocalRef), JNI(GetObjectClass), JNI(IsInstanceOf), JNI(GetFieldID), JNI(GetObjectField),
        JNI(GetIntField), JNI(GetStaticMethodID), JNI(CallStaticObjectMethodA), JNI(CallStaticShortMethodA), JNI(NewStringUTF),
        JNI(GetObjectArrayElement), JNI(GetByteArrayRegion), JNI(RegisterNatives), JNI(GetJavaVM), JNI(ExceptionCheck),
        JNI(GetDirectBufferAddress), JNI(GetDirectBufferCapacity), JNI(GetModule),
        AT(vm, struct JNIInvokeInterface_, GetEnv, GetEnv),
        TI(SetEventNotificationMode), TI(CreateRawMonitor), TI(RawMonitorEnter), TI(RawMonitorExit), TI(Allocate),
        TI(Deallocate), TI(GetClassSignature), TI(GetClassLoaderClasses), TI(AddModuleReads), TI(GetTag), TI(SetTag),
        TI(SetEventCallbacks), TI(DisposeEnvironment), TI(GetSystemProperty), TI(GetPhase), TI(AddCapabilities),
        TI(RetransformClasses),
        AT(jvmti_callbacks, jvmtiEventCallbacks, class_file, ClassFileLoadHook),
        AT(jvmti_callbacks, jvmtiEventCallbacks, class_prepared, ClassPrepare),
        AT(jvmti_callbacks, jvmtiEventCallbacks, object_free, ObjectFree),
        BIT(JVMTI_CAN_TAG, can_tag_objects), BIT(JVMTI_CAN_TELL_FREE, can_generate_object_free_events),
        BIT(JVMTI_CAN_RETRANSFORM, can_retransform_classes), BIT(JVMTI_CAN_RETRANSFORM_ANY, can_retransform_any_class),
    };
    size_t n = sizeof(all) / sizeof(all[0]);

    for (size_t i = 0; i < n; i++)
        if (all[i].ours != all[i].theirs)
            printf("%s: %zu, not %zu\n", all[i].name, all[i].theirs, all[i].ours);
    printf("%zu compared\n", n);
    return 0;
}
