package thaw.java;

import java.util.LinkedHashMap;
import java.util.Map;

/**
 * Counts the function's classes that are loaded during init, and the time to find and define them, by package. What static
 * initialisers and constructors take is not in it. Only the thread that initialises is measured.
 */
final class Packages {
    private static final int MOST = 2000;
    private static final int LONGEST = 300;

    private final Thread thread = Thread.currentThread();
    private final long begun = System.nanoTime();
    private final Map<String, Entry> entries = new LinkedHashMap<>();
    private int dropped;
    private long nested; // the time of the loads within the current one

    private static final class Entry {
        long start;
        long time;
        int classes;
    }

    boolean measuresThis() {
        return Thread.currentThread() == thread;
    }

    /** Before a load: the mark that its end wants. */
    long enter() {
        long outer = nested;
        nested = 0;
        return outer;
    }

    /** After a load that began at start: of its time, what the loads of superclasses took is not its own. */
    void leave(String name, long start, long outer, boolean found) {
        long now = System.nanoTime();
        if (found) {
            int dot = Math.max(name.lastIndexOf('.'), 0);
            Entry entry = entries.get(name.substring(0, dot));
            if (entry == null && entries.size() == MOST) {
                dropped++;
            } else {
                if (entry == null) {
                    entry = new Entry();
                    entry.start = start - begun;
                    entries.put(name.substring(0, dot), entry);
                }
                entry.classes++;
                entry.time += now - start - nested;
            }
        }
        nested = outer + (now - start);
    }

    /** The profile, as the host reads it. By hand: the classes that write JSON are not needed otherwise. */
    String json() {
        StringBuilder names = new StringBuilder();
        StringBuilder starts = new StringBuilder();
        StringBuilder times = new StringBuilder();
        StringBuilder counts = new StringBuilder();
        for (Map.Entry<String, Entry> each : entries.entrySet()) {
            if (names.length() > 0) {
                names.append(',');
                starts.append(',');
                times.append(',');
                counts.append(',');
            }
            quote(names, each.getKey().isEmpty() ? "(unnamed)" : each.getKey());
            Entry entry = each.getValue();
            starts.append(entry.start / 1000);
            times.append(entry.time / 1000);
            counts.append(entry.classes);
        }
        return "{\"kind\":\"class package\",\"names\":[" + names + "],\"starts\":[" + starts + "],\"selves\":[" + times
                + "],\"totals\":[" + times + "],\"counts\":[" + counts + "],\"dropped\":" + dropped + "}";
    }

    private static void quote(StringBuilder out, String name) {
        out.append('"');
        for (int i = 0; i < name.length() && i < LONGEST; i++) {
            char c = name.charAt(i);
            out.append(c < ' ' || c == '"' || c == '\\' ? '?' : c);
        }
        out.append('"');
    }
}
