// SPDX-License-Identifier: Apache-2.0
// TLS of Java's class library, client and server in one process. What each end of each connection got and gave it writes
// to the file "truth", as lines: own port, the other's port, SHA-256 and number of the bytes received, the same of those sent.
//
//   streams N KIB   SSLSocket, N connections at once on threads that read and threads that write
//   virtual N KIB   ... on virtual threads (Java 21)
//   engines N KIB   SSLEngine over SocketChannel: direct and other buffers, several at a time
//   http N          HttpsServer; HttpsURLConnection and java.net.http.HttpClient ask it N times each
//   serve N         that server alone, until stdin ends; prints its port
//   http2 N URL     HttpClient asks another server
//   failure         a handshake that fails: the stack trace is printed
//   wait MODE ...   an exchange on two connections that stay open, of a socket and of an engine, and, at each line on stdin, two more on
//                   each, then the mode
import com.sun.net.httpserver.HttpsConfigurator;
import com.sun.net.httpserver.HttpsServer;
import java.io.*;
import java.net.*;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.security.KeyStore;
import java.security.MessageDigest;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.AtomicInteger;
import javax.net.ssl.*;

public class Tls {
    static SSLContext context;
    static PrintStream truth;
    static ExecutorService pool;
    static final AtomicInteger bad = new AtomicInteger();
    static final InetAddress HERE = InetAddress.getLoopbackAddress();

    // One end of a connection: what passed.
    static class End {
        final MessageDigest in, out;
        long received, sent;

        End() throws Exception {
            in = MessageDigest.getInstance("SHA-256");
            out = MessageDigest.getInstance("SHA-256");
        }

        void got(byte[] b, int off, int n) {
            in.update(b, off, n);
            received += n;
        }

        void gave(byte[] b, int off, int n) {
            out.update(b, off, n);
            sent += n;
        }

        void tell(int port, int peer) {
            synchronized (truth) {
                truth.println(port + " " + peer + " " + hex(in.digest()) + " " + received + " " + hex(out.digest()) + " " + sent);
            }
        }
    }

    static String hex(byte[] b) {
        StringBuilder s = new StringBuilder();
        for (byte x : b)
            s.append(String.format("%02x", x));
        return s.toString();
    }

    static void prepare() throws Exception {
        KeyStore store = KeyStore.getInstance("PKCS12");
        try (InputStream i = new FileInputStream("store.p12")) {
            store.load(i, "secret".toCharArray());
        }
        KeyManagerFactory keys = KeyManagerFactory.getInstance("PKIX");
        keys.init(store, "secret".toCharArray());
        TrustManagerFactory trust = TrustManagerFactory.getInstance("PKIX");
        trust.init(store);
        context = SSLContext.getInstance("TLS");
        context.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
        HttpsURLConnection.setDefaultSSLSocketFactory(context.getSocketFactory());
    }

    static ExecutorService threads(boolean virtual) throws Exception {
        if (virtual)
            return (ExecutorService) Executors.class.getMethod("newVirtualThreadPerTaskExecutor").invoke(null);
        return Executors.newCachedThreadPool(r -> {
            Thread t = new Thread(r);
            t.setDaemon(true);
            return t;
        });
    }

    // --- SSLSocket ---

    // Sends back what it gets, with buffers of odd sizes and places in their arrays.
    static void echo(SSLSocket s) {
        try {
            End end = new End();
            Random random = new Random(s.getPort());
            byte[] b = new byte[100 + random.nextInt(20000)];
            InputStream in = s.getInputStream();
            OutputStream out = s.getOutputStream();
            for (int n, off; ; ) {
                off = random.nextInt(50);
                n = in.read(b, off, b.length - off);
                if (n < 0)
                    break;
                end.got(b, off, n);
                out.write(b, off, n);
                end.gave(b, off, n);
            }
            end.tell(s.getLocalPort(), s.getPort());
            s.close();
        } catch (Exception e) {
            bad.incrementAndGet();
        }
    }

    static void client(SSLServerSocket server, int id, int size) {
        try (SSLSocket s = (SSLSocket) context.getSocketFactory().createSocket(HERE, server.getLocalPort())) {
            End end = new End();
            Random random = new Random(id);
            InputStream in = s.getInputStream();
            OutputStream out = s.getOutputStream();
            Future<?> reader = pool.submit(() -> {
                byte[] b = new byte[64 + id * 37 % 9000];
                while (end.received < size) {
                    int n = in.read(b);
                    if (n < 0)
                        break;
                    end.got(b, 0, n);
                }
                return null;
            });
            while (end.sent < size) {
                byte[] b = new byte[(int) Math.min(size - end.sent, 1 + random.nextInt(40000)) + 5];
                random.nextBytes(b);
                out.write(b, 5, b.length - 5);
                end.gave(b, 5, b.length - 5);
            }
            reader.get();
            end.tell(s.getLocalPort(), s.getPort());
        } catch (Exception e) {
            e.printStackTrace();
            bad.incrementAndGet();
        }
    }

    static void streams(int n, int kib) throws Exception {
        SSLServerSocket server = (SSLServerSocket) context.getServerSocketFactory().createServerSocket(0, 500, HERE);
        List<Future<?>> all = new ArrayList<>();
        Future<?> accepts = pool.submit(() -> {
            for (int i = 0; i < n; i++) {
                SSLSocket s = (SSLSocket) server.accept();
                all.add(pool.submit(() -> echo(s)));
            }
            return null;
        });
        List<Future<?>> clients = new ArrayList<>();
        for (int i = 0; i < n; i++) {
            int id = i;
            clients.add(pool.submit(() -> client(server, id, kib * 1024)));
        }
        for (Future<?> f : clients)
            f.get();
        accepts.get();
        for (Future<?> f : all)
            f.get();
        System.out.println("streams " + n + " bad " + bad);
    }

    // --- SSLEngine ---

    static class Engine {
        final SSLEngine engine;
        final SocketChannel channel;
        final End end;
        final ByteBuffer netIn, netOut;
        final ByteBuffer[] plain; // where what was received goes: several, some direct

        Engine(SocketChannel c, boolean client, boolean direct) throws Exception {
            channel = c;
            end = new End();
            engine = context.createSSLEngine();
            engine.setUseClientMode(client);
            int size = engine.getSession().getPacketBufferSize();
            netIn = direct ? ByteBuffer.allocateDirect(size) : ByteBuffer.wrap(new byte[size + 9], 9, size).slice();
            netOut = direct ? ByteBuffer.allocate(size) : ByteBuffer.allocateDirect(size);
            plain = new ByteBuffer[] {ByteBuffer.allocate(777), ByteBuffer.allocateDirect(3000), ByteBuffer.allocate(size)};
        }

        // At least one byte of plaintext, or -1 at the end.
        int receive() throws Exception {
            while (true) {
                for (ByteBuffer b : plain)
                    b.clear();
                netIn.flip();
                SSLEngineResult r = engine.unwrap(netIn, plain);
                netIn.compact();
                tasks();
                if (r.getHandshakeStatus() == SSLEngineResult.HandshakeStatus.NEED_WRAP)
                    send();
                if (r.getStatus() == SSLEngineResult.Status.CLOSED)
                    return -1;
                if (r.bytesProduced() > 0)
                    return r.bytesProduced();
                if (r.getStatus() == SSLEngineResult.Status.BUFFER_UNDERFLOW && channel.read(netIn) < 0)
                    return -1;
            }
        }

        void tasks() {
            for (Runnable t; (t = engine.getDelegatedTask()) != null; )
                t.run();
        }

        // All of the buffers.
        void send(ByteBuffer... src) throws Exception {
            SSLEngineResult r;
            do {
                r = engine.wrap(src, netOut);
                tasks();
                netOut.flip();
                while (netOut.hasRemaining())
                    channel.write(netOut);
                netOut.clear();
                if (r.getHandshakeStatus() == SSLEngineResult.HandshakeStatus.NEED_UNWRAP && r.bytesConsumed() == 0 && src.length > 0)
                    step();
            } while (left(src) > 0 || r.getHandshakeStatus() == SSLEngineResult.HandshakeStatus.NEED_WRAP);
        }

        // A step of the handshake, in which no plaintext comes.
        void step() throws Exception {
            for (ByteBuffer b : plain)
                b.clear();
            netIn.flip();
            SSLEngineResult r = engine.unwrap(netIn, plain);
            netIn.compact();
            tasks();
            if (r.getStatus() == SSLEngineResult.Status.BUFFER_UNDERFLOW && channel.read(netIn) < 0)
                throw new EOFException();
        }

        static long left(ByteBuffer[] src) {
            long n = 0;
            for (ByteBuffer b : src)
                n += b.remaining();
            return n;
        }

        byte[] take(int n) {
            byte[] all = new byte[n];
            int at = 0;
            for (ByteBuffer b : plain) {
                b.flip();
                int k = b.remaining();
                b.get(all, at, k);
                at += k;
            }
            end.got(all, 0, n);
            return all;
        }

        void give(byte[] b) throws Exception {
            int third = b.length / 3;
            ByteBuffer direct = ByteBuffer.allocateDirect(b.length - 2 * third);
            direct.put(b, 2 * third, b.length - 2 * third).flip();
            send(ByteBuffer.wrap(b, 0, third), ByteBuffer.wrap(b, third, third).slice().asReadOnlyBuffer(), direct);
            end.gave(b, 0, b.length);
        }

        void close() throws Exception {
            engine.closeOutbound();
            send();
            end.tell(((InetSocketAddress) channel.getLocalAddress()).getPort(), ((InetSocketAddress) channel.getRemoteAddress()).getPort());
            channel.close();
        }
    }

    static Object ask(Engine e, int id, int size) throws Exception {
        Random random = new Random(id);
        for (int sent = 0; sent < size; ) {
            byte[] b = new byte[Math.min(size - sent, 3 + random.nextInt(30000))], back = new byte[b.length];
            random.nextBytes(b);
            e.give(b);
            sent += b.length;
            for (int at = 0, n; at < b.length; at += n) {
                n = e.receive();
                if (n < 0)
                    throw new EOFException();
                System.arraycopy(e.take(n), 0, back, at, n);
            }
            if (!Arrays.equals(b, back))
                bad.incrementAndGet();
        }
        e.close();
        return null;
    }

    static Object answer(Engine e) throws Exception {
        for (int n; (n = e.receive()) >= 0; )
            e.give(e.take(n));
        e.close();
        return null;
    }

    static void engines(int n, int kib) throws Exception {
        ServerSocketChannel server = ServerSocketChannel.open().bind(new InetSocketAddress(HERE, 0));
        List<Future<?>> all = new ArrayList<>();
        for (int i = 0; i < n; i++) {
            int id = i;
            SocketChannel c = SocketChannel.open(server.getLocalAddress()), s = server.accept();
            all.add(pool.submit(() -> answer(new Engine(s, false, id % 2 == 0))));
            all.add(pool.submit(() -> ask(new Engine(c, true, id % 3 == 0), id, kib * 1024)));
        }
        for (Future<?> f : all)
            f.get();
        System.out.println("engines " + n + " bad " + bad);
    }

    // --- HTTP ---

    static byte[] body(int i) {
        byte[] b = new byte[1 + i * 7919 % 60000];
        new Random(i).nextBytes(b);
        return b;
    }

    static HttpsServer server() throws Exception {
        HttpsServer server = HttpsServer.create(new InetSocketAddress(HERE, 0), 200);
        server.setHttpsConfigurator(new HttpsConfigurator(context));
        server.setExecutor(pool);
        server.createContext("/", x -> {
            byte[] b = x.getRequestBody().readAllBytes();
            x.sendResponseHeaders(200, b.length);
            x.getResponseBody().write(b);
            x.close();
        });
        server.start();
        return server;
    }

    static void serve() throws Exception {
        HttpsServer server = server();
        System.out.println(server.getAddress().getPort());
        System.in.transferTo(OutputStream.nullOutputStream());
        server.stop(0);
    }

    static void http(int n) throws Exception {
        HttpsServer server = server();
        URI uri = URI.create("https://localhost:" + server.getAddress().getPort() + "/echo");
        HttpClient client = HttpClient.newBuilder().sslContext(context).build();
        List<CompletableFuture<Boolean>> all = new ArrayList<>();
        for (int i = 0; i < n; i++) {
            byte[] b = body(i);
            HttpsURLConnection c = (HttpsURLConnection) uri.toURL().openConnection();
            c.setDoOutput(true);
            c.getOutputStream().write(b);
            if (!Arrays.equals(b, c.getInputStream().readAllBytes()))
                bad.incrementAndGet();
            all.add(client.sendAsync(HttpRequest.newBuilder(uri).POST(HttpRequest.BodyPublishers.ofByteArray(b)).build(),
                HttpResponse.BodyHandlers.ofByteArray()).thenApply(r -> Arrays.equals(r.body(), b)));
        }
        for (CompletableFuture<Boolean> f : all)
            if (!f.get())
                bad.incrementAndGet();
        System.out.println("http " + n + " bad " + bad);
    }

    static void http2(int n, String url) throws Exception {
        HttpClient client = HttpClient.newBuilder().sslContext(context).version(HttpClient.Version.HTTP_2).build();
        Map<String, Integer> answers = new TreeMap<>();
        List<CompletableFuture<HttpResponse<byte[]>>> all = new ArrayList<>();
        for (int i = 0; i < n; i++)
            all.add(client.sendAsync(HttpRequest.newBuilder(URI.create(url + "?" + i)).build(), HttpResponse.BodyHandlers.ofByteArray()));
        for (CompletableFuture<HttpResponse<byte[]>> f : all)
            answers.merge(f.get().version() + " " + f.get().statusCode() + " " + f.get().body().length, 1, Integer::sum);
        System.out.println("http2 " + answers);
    }

    // --- what people see ---

    static void failure() throws Exception {
        ServerSocket server = new ServerSocket(0, 5, HERE);
        Thread t = new Thread(() -> {
            try (Socket c = server.accept()) {
                c.getInputStream().read();
                c.getOutputStream().write("HTTP/1.0 400 no\r\n\r\n".getBytes());
                c.getInputStream().readAllBytes(); // until the client has said what it thinks of it
            } catch (IOException e) {
                System.out.println("unexpected " + e);
            }
        });
        t.start();
        try (Socket c = context.getSocketFactory().createSocket(HERE, server.getLocalPort())) {
            c.getOutputStream().write(new byte[5]);
        } catch (SSLException e) {
            e.printStackTrace();
        }
        t.join();
        System.out.println("arguments " + java.lang.management.ManagementFactory.getRuntimeMXBean().getInputArguments());
    }

    static void run(String[] a) throws Exception {
        int n = a.length > 1 ? Integer.parseInt(a[1]) : 0;

        switch (a[0]) {
        case "streams", "virtual" -> streams(n, Integer.parseInt(a[2]));
        case "engines" -> engines(n, Integer.parseInt(a[2]));
        case "http" -> http(n);
        case "serve" -> serve();
        case "http2" -> http2(n, a[2]);
        case "failure" -> failure();
        default -> throw new IllegalArgumentException(a[0]);
        }
    }

    public static void main(String[] a) throws Exception {
        boolean wait = a[0].equals("wait");
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));

        System.setProperty("jdk.internal.httpclient.disableHostnameVerification", "true");
        truth = new PrintStream(new FileOutputStream("truth", true));
        pool = threads(Arrays.asList(a).contains("virtual"));
        prepare();
        if (!wait) {
            run(a);
            System.exit(bad.get());
        }
        // A connection that stays open, of which the other end is here, too
        SSLServerSocket server = (SSLServerSocket) context.getServerSocketFactory().createServerSocket(0, 5, HERE);
        SSLSocket c = (SSLSocket) context.getSocketFactory().createSocket(HERE, server.getLocalPort()), s = (SSLSocket) server.accept();
        pool.submit(() -> echo(s));
        ServerSocketChannel channels = ServerSocketChannel.open().bind(new InetSocketAddress(HERE, 0));
        SocketChannel cc = SocketChannel.open(channels.getLocalAddress()), sc = channels.accept();
        Engine e = new Engine(cc, true, true);
        pool.submit(() -> answer(new Engine(sc, false, false)));
        exchange(c, "before");
        exchange(e, "before");
        System.out.println("ready " + c.getLocalPort() + " " + cc.socket().getLocalPort());
        for (String line; (line = lines.readLine()) != null; System.out.println("done")) {
            exchange(c, line);
            exchange(c, line + " again");
            exchange(e, line);
            exchange(e, line + " again");
            run(Arrays.copyOfRange(a, 1, a.length));
        }
        System.exit(bad.get());
    }

    static void exchange(Engine e, String word) throws Exception {
        byte[] b = (word + "\n").getBytes();

        e.give(b);
        for (int n, at = 0; at < b.length; at += n) {
            n = e.receive();
            if (n < 0 || !Arrays.equals(e.take(n), Arrays.copyOfRange(b, at, at + n)))
                throw new EOFException();
        }
    }

    static void exchange(SSLSocket c, String word) throws Exception {
        byte[] b = (word + "\n").getBytes(), back = new byte[b.length];

        c.getOutputStream().write(b);
        new DataInputStream(c.getInputStream()).readFully(back);
        if (!Arrays.equals(b, back))
            bad.incrementAndGet();
    }
}
