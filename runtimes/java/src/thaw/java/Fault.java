package thaw.java;

import java.io.PrintWriter;
import java.io.StringWriter;
import java.util.ArrayList;
import java.util.Collections;
import java.util.IdentityHashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** A function that cannot be run, told as AWS tells it: without a stack trace in the error object, with it in the log. */
final class Fault extends RuntimeException {
    static final String BAD_CODE = "Runtime.BadFunctionCode";
    static final String USER_EXCEPTION = "Runtime.UserException";

    private static final long serialVersionUID = 1L;
    private static final int MAX_CAUSES = 16;

    /** Whether the environment must end. */
    final boolean fatal;

    private final String type;
    private final String trace;

    Fault(String message) {
        super(message);
        fatal = false;
        type = null;
        trace = null;
    }

    Fault(Throwable t, boolean fatal) {
        this(messageOf(t), t, fatal);
    }

    Fault(String message, Throwable t, boolean fatal) {
        super(message);
        this.fatal = fatal;
        type = t.getClass().getName();
        cutTrace(t);
        StringWriter text = new StringWriter();
        t.printStackTrace(new PrintWriter(text));
        trace = text.toString();
    }

    /** What the log shows. */
    String text() {
        return type == null ? getMessage() + "\n" : getMessage() + ": " + type + "\n" + trace + "\n";
    }

    Map<String, Object> json() {
        Map<String, Object> json = new LinkedHashMap<>();
        json.put("errorMessage", getMessage());
        json.put("errorType", type);
        return json;
    }

    /** The error object of what a handler threw. */
    static Map<String, Object> json(Throwable t) {
        return json(t, MAX_CAUSES);
    }

    private static Map<String, Object> json(Throwable t, int causes) {
        Map<String, Object> json = new LinkedHashMap<>();
        json.put("errorMessage", messageOf(t));
        json.put("errorType", t.getClass().getName());
        List<String> trace = new ArrayList<>();
        for (StackTraceElement element : t.getStackTrace()) {
            trace.add(element.toString());
        }
        json.put("stackTrace", trace);
        if (t.getCause() != null && causes > 0) {
            json.put("cause", json(t.getCause(), causes - 1));
        }
        return json;
    }

    private static String messageOf(Throwable t) {
        String message = t.getLocalizedMessage();
        return message == null ? t.getClass().getName() : message;
    }

    /** Leaves out the runtime's own part of the stack, of causes and suppressed exceptions too. */
    static void cutTrace(Throwable t) {
        cutTrace(t, Collections.newSetFromMap(new IdentityHashMap<>()));
    }

    private static void cutTrace(Throwable t, Set<Throwable> seen) {
        if (t == null || !seen.add(t)) {
            return;
        }
        StackTraceElement[] trace = t.getStackTrace();
        for (int i = 0; i < trace.length; i++) {
            if (!isOwn(trace[i])) {
                continue;
            }
            int end = i;
            while (end > 0 && isReflection(trace[end - 1])) {
                end--;
            }
            StackTraceElement[] kept = new StackTraceElement[end];
            System.arraycopy(trace, 0, kept, 0, end);
            t.setStackTrace(kept);
            break;
        }
        cutTrace(t.getCause(), seen);
        for (Throwable suppressed : t.getSuppressed()) {
            cutTrace(suppressed, seen);
        }
    }

    private static boolean isOwn(StackTraceElement element) {
        return element.getClassName().startsWith("thaw.java.");
    }

    private static boolean isReflection(StackTraceElement element) {
        String name = element.getClassName();
        return name.startsWith("java.lang.reflect.")
                || name.startsWith("jdk.internal.reflect.")
                || name.startsWith("sun.reflect.")
                || name.startsWith("java.lang.invoke.");
    }
}
