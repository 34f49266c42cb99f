package example;

import java.util.List;
import java.util.Optional;

public class Records {
    public record Order(String id, List<Line> lines, Optional<String> note) {
        public record Line(String sku, int count) {}
    }

    public record Total(String id, int count, String note) {}

    public Total handle(Order order) {
        return new Total(order.id(), order.lines().stream().mapToInt(Order.Line::count).sum(), order.note().orElse(null));
    }
}
