// SPDX-License-Identifier: Apache-2.0
// Runs Tls, on a class library whose methods call java.lang.Counted, and says at the end that they do.
public class Counting {
    public static void main(String[] a) throws Exception {
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                Class<?> counted = Class.forName("java.lang.Counted");
                long in = counted.getField("in").getLong(null), out = counted.getField("out").getLong(null);
                System.out.println(in > 100000 && out > 100000 ? "counted" : "in " + in + " out " + out);
            } catch (ReflectiveOperationException e) {
                System.out.println(e);
            }
        }));
        Tls.main(a);
    }
}
