import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Base64;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.springframework.kafka.core.DefaultKafkaConsumerFactory;
import org.springframework.kafka.core.DefaultKafkaProducerFactory;
import org.springframework.kafka.listener.ContainerProperties;
import org.springframework.kafka.listener.KafkaMessageListenerContainer;
import org.springframework.kafka.requestreply.ReplyingKafkaTemplate;
import org.springframework.kafka.requestreply.RequestReplyFuture;
import org.springframework.kafka.support.TopicPartitionOffset;

/**
 * A service that asks for predictions with Spring's ReplyingKafkaTemplate, and knows nothing of Inflight but the wire format.
 *
 * Prints a line for each request: its number, and the reply's value in Base64, or - if there was none within the time-out.
 *
 * Usage: SpringCaller.java BOOTSTRAP REQUEST_TOPIC REPLY_TOPIC any|PARTITION SECONDS REQUESTS
 *
 * REQUESTS is a file with the value of a request in each line. With a partition, the template names it in its requests, and
 * reads that one only.
 */
public class SpringCaller {
    public static void main(String[] arguments) throws Exception {
        var bootstrap = arguments[0];
        var requestTopic = arguments[1];
        var replyTopic = arguments[2];
        var own = !arguments[3].equals("any");
        var seconds = Duration.ofSeconds(Long.parseLong(arguments[4]));
        List<String> requests = Files.readAllLines(Path.of(arguments[5]));

        var producing = new HashMap<String, Object>();
        producing.put("bootstrap.servers", bootstrap);
        var producers =
                new DefaultKafkaProducerFactory<>(producing, new ByteArraySerializer(), new ByteArraySerializer());
        var consuming = new HashMap<String, Object>();
        consuming.put("bootstrap.servers", bootstrap);
        consuming.put("auto.offset.reset", "latest");
        consuming.put("group.id", replyTopic + "-callers");
        var consumers =
                new DefaultKafkaConsumerFactory<>(consuming, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        var properties = own
                ? new ContainerProperties(new TopicPartitionOffset(replyTopic, Integer.parseInt(arguments[3])))
                : new ContainerProperties(replyTopic);
        var container = new KafkaMessageListenerContainer<byte[], byte[]>(consumers, properties);
        var template = new ReplyingKafkaTemplate<byte[], byte[], byte[]>(producers, container);
        template.setDefaultReplyTimeout(seconds);
        template.start();
        if (!template.waitForAssignment(Duration.ofSeconds(120))) {
            throw new IllegalStateException("no partition of the reply topic was assigned");
        }

        Map<Integer, RequestReplyFuture<byte[], byte[], byte[]>> futures = new LinkedHashMap<>();
        for (var number = 0; number < requests.size(); number++) {
            var key = ("customer-" + number % 5).getBytes();
            futures.put(
                    number,
                    template.sendAndReceive(new ProducerRecord<>(requestTopic, key, requests.get(number).getBytes())));
        }
        for (var entry : futures.entrySet()) {
            var told = "-";
            try {
                var reply = entry.getValue().get(seconds.toSeconds() + 60, TimeUnit.SECONDS);
                told = Base64.getEncoder().encodeToString(reply.value());
            } catch (ExecutionException error) {
                System.err.println(entry.getKey() + ": " + error.getCause());
            }
            System.out.println(entry.getKey() + " " + told);
        }
        template.stop();
        producers.destroy();
        System.exit(0);
    }
}
