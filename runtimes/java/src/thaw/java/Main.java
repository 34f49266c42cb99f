package thaw.java;

import com.amazonaws.services.lambda.runtime.LambdaRuntimeInternal;
import java.io.ByteArrayOutputStream;
import java.io.IOError;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.Map;

/**
 * Runs a Java function inside an execution environment. Speaks frames with the host on descriptor 3 and behaves towards
 * the function as AWS's runtime client does.
 *
 * <p>With the argument "archive" it is a dry run for a class-data archive: it loads what a start and an invocation need,
 * and ends normally, so that the JVM writes the archive, when the host closes the channel; at once without a handler.
 * With the argument "--profile" it tells what the init loaded.
 */
public final class Main {
    static final String TRACE_PROPERTY = "com.amazonaws.xray.traceHeader";
    private static final int LARGEST_PROFILE = 1024 * 1024; // the host takes no longer one

    private Main() {}

    public static void main(String[] args) throws Exception {
        boolean archive = args.length > 0 && args[0].equals("archive");
        if (archive) {
            DryRun.loadAll();
            if (System.getenv("_HANDLER") == null) {
                return;
            }
        }
        Channel channel = new Channel();
        long up = System.currentTimeMillis() * 1000;
        TaskLoader loader = new TaskLoader(System.getenv("LAMBDA_TASK_ROOT"), Main.class.getClassLoader());
        if (archive) {
            loader.remember();
        }
        Thread.currentThread().setContextClassLoader(loader);
        if (args.length > 0 && args[0].equals("--profile")) {
            loader.measure();
        }
        Handler handler = load(loader, channel, up);
        tellProfile(loader, channel, up);
        channel.send('R', Long.toString(up), new byte[0], 0);
        while (serve(handler, channel, loader)) {}
        if (archive) {
            loader.linkAll();
            System.exit(0);
        }
        Runtime.getRuntime().halt(0);
    }

    private static Handler load(TaskLoader loader, Channel channel, long up) throws IOException {
        try {
            return Handlers.load(System.getenv("_HANDLER"), loader);
        } catch (Fault fault) {
            tellProfile(loader, channel, up);
            Log.error(fault.text());
            Log.flush();
            channel.send('X', Fault.BAD_CODE, fault.json());
            System.exit(1);
            return null;
        }
    }

    private static void tellProfile(TaskLoader loader, Channel channel, long up) throws IOException {
        Packages packages = loader.measured();
        if (packages != null) {
            byte[] json = packages.json().getBytes(StandardCharsets.UTF_8);
            if (json.length > LARGEST_PROFILE) {
                json = new byte[0];
            }
            channel.send('T', Long.toString(up), json, json.length);
        }
    }

    /** Serves one invocation. False: the host has gone. */
    private static boolean serve(Handler handler, Channel channel, ClassLoader loader) throws IOException {
        Invocation invocation = channel.receive();
        if (invocation == null) {
            return false;
        }
        if (invocation.traceId.isEmpty()) {
            System.clearProperty(TRACE_PROPERTY);
        } else {
            System.setProperty(TRACE_PROPERTY, invocation.traceId);
        }
        boolean last = false;
        try {
            Response response = new Response();
            InvocationContext context = new InvocationContext(invocation);
            Log.serving(invocation.requestId);
            if (LambdaRuntimeInternal.getUseLog4jAppender()) {
                Log.tellLog4j(loader, invocation.requestId);
            }
            handler.handle(invocation.event, response, context);
            Log.flush();
            channel.send('S', "", response.bytes(), response.size());
        } catch (Fault fault) {
            last = fault.fatal;
            fail(channel, last, Fault.BAD_CODE, fault.text(), fault.json());
        } catch (ChannelException e) {
            throw e.cause();
        } catch (Throwable t) {
            last = t instanceof VirtualMachineError || t instanceof IOError;
            Fault.cutTrace(t);
            fail(channel, last, Fault.USER_EXCEPTION, new Fault(t, false).text(), Fault.json(t));
        }
        Thread.interrupted(); // what a handler left set is not the next one's
        if (last) {
            Runtime.getRuntime().halt(1);
        }
        return true;
    }

    private static void fail(Channel channel, boolean last, String type, String text, Map<String, Object> error)
            throws IOException {
        Log.error(text);
        Log.flush();
        channel.send(last ? 'D' : 'F', type, error);
    }

    /** A handler's output, whose bytes are not copied. */
    static final class Response extends ByteArrayOutputStream {
        Response() {
            super(1024);
        }

        byte[] bytes() {
            return buf;
        }
    }
}
