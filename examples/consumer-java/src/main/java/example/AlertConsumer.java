package example;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.time.Instant;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * What an operator runs: reads its own alerts and keeps the list of what is open. Copy it, and put your work into {@link #act}.
 *
 * <pre>
 * mvn package
 * java -cp 'target/alert-consumer.jar:target/lib/*' example.AlertConsumer client.properties alerts.amber amber.json
 * java -cp 'target/alert-consumer.jar:target/lib/*' example.AlertConsumer --list amber.json
 * </pre>
 *
 * <p>client.properties holds Kafka's own settings: bootstrap.servers, group.id, and what security there is. The rules that make it
 * right are those of consumer_python.py:
 *
 * <ol>
 *   <li>At least once: an offset is committed after the event was acted upon and remembered. After a crash some come again.
 *   <li>The event id tells: {@code event_id} is {@code episode_id/sequence}, so the highest sequence of each episode tells of every
 *       event whether it was seen.
 *   <li>Each event is whole: the newest one of an episode says all there is to know.
 *   <li>Be ready for more: ignore fields, kinds and states that you do not know.
 * </ol>
 */
public final class AlertConsumer {
  private static final String SCHEMA = "urban-brain/alert/1";
  private static final Set<String> OVER = Set.of("cleared", "cancelled");
  private static final ObjectMapper JSON = new ObjectMapper();

  private final Episodes episodes;

  private AlertConsumer(Episodes episodes) {
    this.episodes = episodes;
  }

  /** YOUR WORK: make a task, move it, close it. May be called twice for one event_id, after a crash in between. */
  private void act(JsonNode event) {
    ObjectNode shown = JSON.createObjectNode();
    for (String key : List.of("event_id", "state", "severity", "count", "excess", "respond_by")) {
      shown.set(key, event.get(key));
    }
    System.out.println(shown);
  }

  /** Until the consumer is woken up; with `once` until the end of the topic. */
  private void run(KafkaConsumer<byte[], byte[]> consumer, String topic, boolean once) throws IOException {
    consumer.subscribe(List.of(topic));
    while (true) {
      ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofSeconds(1));
      for (ConsumerRecord<byte[], byte[]> record : records) {
        JsonNode event = parse(record);
        if (event != null && episodes.isNew(event)) {
          act(event);
          episodes.put(event);
        }
      }
      if (!records.isEmpty()) {
        episodes.save();
        consumer.commitSync();
      } else if (once && atEnd(consumer)) {
        return;
      }
    }
  }

  private static boolean atEnd(KafkaConsumer<?, ?> consumer) {
    Set<TopicPartition> mine = consumer.assignment();
    Map<TopicPartition, Long> ends = consumer.endOffsets(mine);
    return !mine.isEmpty() && mine.stream().allMatch(place -> consumer.position(place) >= ends.get(place));
  }

  /** The event; null for what is none. One bad record must not stop the others. */
  private static JsonNode parse(ConsumerRecord<byte[], byte[]> record) throws IOException {
    String reason = "it has no value";
    if (record.value() != null) {
      try {
        JsonNode event = JSON.readTree(record.value());
        if (SCHEMA.equals(event.path("schema").asText())) {
          return event;
        }
        reason = "its schema is " + event.path("schema");
      } catch (JsonProcessingException error) {
        reason = error.getOriginalMessage();
      }
    }
    System.err.printf("%s/%d at %d is no alert: %s%n", record.topic(), record.partition(), record.offset(), reason);
    return null;
  }

  /** The newest event of each episode, in a file that survives us. */
  private static final class Episodes {
    /** Longer than the topic keeps its records: later none can come again. */
    private static final Duration FORGET_AFTER = Duration.ofDays(30);

    private final Path path;
    private final Map<String, JsonNode> newest = new HashMap<>();

    Episodes(Path path) throws IOException {
      this.path = path;
      if (Files.exists(path)) {
        JSON.readTree(path.toFile()).forEach(this::put);
      }
    }

    /** False: we have had this event, or a newer one of its episode. */
    boolean isNew(JsonNode event) {
      JsonNode known = newest.get(event.get("episode_id").asText());
      return known == null || event.get("sequence").asInt() > known.get("sequence").asInt();
    }

    void put(JsonNode event) {
      newest.put(event.get("episode_id").asText(), event);
    }

    /** Written beside the old file, forced to the disk, then put in its place: whenever we die, one of the two is whole. */
    void save() throws IOException {
      forget();
      Path beside = path.resolveSibling(path.getFileName() + ".new");
      Files.write(beside, JSON.writeValueAsBytes(newest.values()));
      try (FileChannel file = FileChannel.open(beside, StandardOpenOption.WRITE)) {
        file.force(true);
      }
      Files.move(beside, path, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
    }

    private void forget() {
      Instant now = newest.values().stream().map(Episodes::observed).max(Instant::compareTo).orElse(Instant.MIN);
      newest.values().removeIf(event -> !isOpen(event) && observed(event).isBefore(now.minus(FORGET_AFTER)));
    }

    private static Instant observed(JsonNode event) {
      return Instant.parse(event.get("observed_at").asText());
    }

    private static boolean isOpen(JsonNode event) {
      return !OVER.contains(event.get("state").asText());
    }

    /** What is open, the longest first. */
    void list() {
      Map<String, JsonNode> open = new TreeMap<>();
      for (JsonNode event : newest.values()) {
        if (isOpen(event)) {
          open.put(event.get("opened_at").asText() + event.get("episode_id").asText(), event);
        }
      }
      open.values().forEach(System.out::println);
    }
  }

  public static void main(String[] arguments) throws Exception {
    if (arguments.length == 2 && arguments[0].equals("--list")) {
      new Episodes(Path.of(arguments[1])).list();
      return;
    }
    if (arguments.length < 3) {
      System.err.println("usage: AlertConsumer CLIENT.properties TOPIC STATE.json [--once] | --list STATE.json");
      System.exit(2);
    }
    Properties settings = new Properties();
    try (var reader = Files.newBufferedReader(Path.of(arguments[0]))) {
      settings.load(reader);
    }
    settings.put("enable.auto.commit", "false");
    settings.putIfAbsent("auto.offset.reset", "earliest");
    boolean once = arguments.length > 3 && arguments[3].equals("--once");
    Episodes episodes = new Episodes(Path.of(arguments[2]));
    try (var consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
      Thread main = Thread.currentThread();
      Runtime.getRuntime().addShutdownHook(new Thread(() -> stop(consumer, main)));
      new AlertConsumer(episodes).run(consumer, arguments[1], once);
    } catch (WakeupException stopped) {
      // SIGTERM or Ctrl-C: what was not saved and committed comes again
    }
  }

  /** The virtual machine ends when this returns: first let the consumer leave its group. */
  private static void stop(KafkaConsumer<?, ?> consumer, Thread main) {
    consumer.wakeup();
    try {
      main.join(10_000);
    } catch (InterruptedException impatient) {
      Thread.currentThread().interrupt();
    }
  }
}
