#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "host/char.h"

/* A front end that asks for `max` bytes at a time and keeps what it gets. */
struct front {
    struct event_loop *loop;
    struct chardev *chardev;
    size_t max;
    u8 got[70000];
    size_t len;
    unsigned refusals; /* how many offers it still turns down */
    unsigned breaks, quits, answers;
    char flow[16];
    size_t nflow;
};

static bool receive(void *opaque, const u8 *bytes, size_t len)
{
    struct front *front = opaque;

    if (front->refusals) {
        front->refusals--;
        return false;
    }
    assert_true(len >= 1 && len <= front->max && front->len + len <= sizeof(front->got));
    memcpy(front->got + front->len, bytes, len);
    front->len += len;
    front->answers++;
    chardev_want(front->chardev, front->max);
    return true;
}

static bool line_break(void *opaque)
{
    ((struct front *)opaque)->breaks++;
    return true;
}

static bool flow(void *opaque, bool go)
{
    struct front *front = opaque;

    assert_true(front->nflow < sizeof(front->flow) - 1);
    front->flow[front->nflow++] = go ? 'g' : 's';
    return true;
}

static void quit(void *opaque)
{
    ((struct front *)opaque)->quits++;
}

static const struct chardev_events events = {receive, line_break, flow};

static void open_front(struct front *front, const char *spec, size_t max)
{
    struct error err = {0};

    memset(front, 0, sizeof(*front));
    front->max = max;
    front->loop = event_loop_new(&err);
    assert_non_null(front->loop);
    front->chardev = chardev_open(spec, front->loop, &err);
    assert_string_equal(err.text, "");
    assert_non_null(front->chardev);
    chardev_connect(front->chardev, &events, front);
    chardev_on_quit(front->chardev, quit, front);
    chardev_want(front->chardev, max);
}

static void close_front(struct front *front)
{
    chardev_close(front->chardev);
    event_loop_free(front->loop);
}

static void run_until(struct front *front, size_t len)
{
    while (front->len < len)
        event_loop_run_once(front->loop, -1);
}

static void settle(struct front *front)
{
    while (event_loop_run_once(front->loop, 0))
        ;
}

/* Run with descriptors `in` and `out` as standard input and output. */
struct redirected {
    int saved[2];
};

static void redirect(struct redirected *r, int in, int out)
{
    fflush(stdout);
    for (int fd = 0; fd < 2; fd++) {
        r->saved[fd] = dup(fd);
        dup2(fd ? out : in, fd);
    }
}

static void redirect_back(struct redirected *r)
{
    for (int fd = 0; fd < 2; fd++) {
        dup2(r->saved[fd], fd);
        close(r->saved[fd]);
    }
}

static void temp_path(char path[static 64])
{
    strcpy(path, "/tmp/plastron-test-XXXXXX");
    assert_non_null(mkdtemp(path));
    strcat(path, "/c");
}

static void remove_temp(char *path)
{
    unlink(path);
    *strrchr(path, '/') = 0;
    rmdir(path);
}

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    strcpy(address.sun_path, path);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static void test_file_holds_all_that_was_written(void **state)
{
    struct front front;
    char path[64], spec[80], text[32] = "";
    FILE *file;

    temp_path(path);
    snprintf(spec, sizeof(spec), "file:%s", path);
    open_front(&front, spec, 16);
    chardev_write(front.chardev, "one ", 4);
    settle(&front);
    chardev_write(front.chardev, "two", 3); /* written out by the close */
    close_front(&front);
    file = fopen(path, "r");
    assert_non_null(fgets(text, sizeof(text), file));
    fclose(file);
    assert_string_equal(text, "one two");
    remove_temp(path);
}

static void test_bad_specs_say_what_to_do(void **state)
{
    static const char *const bad[] = {
        "", "stdi", "file:", "unix:", "file:/nonexistent/x", "unix:/nonexistent/x", "none:"};
    struct event_loop *loop = event_loop_new(NULL);
    struct error err;
    char spec[200] = "unix:/";

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        err.text[0] = 0;
        assert_null(chardev_open(bad[i], loop, &err));
        assert_string_not_equal(err.text, "");
    }
    memset(spec + 6, 'x', 150);
    assert_null(chardev_open(spec, loop, &err));
    assert_non_null(strstr(err.text, "107"));
    event_loop_free(loop);
}

static void test_socket_carries_both_ways_and_takes_the_next_client(void **state)
{
    struct front front;
    struct stat st;
    char path[64], spec[80], bytes[16];
    int client;

    temp_path(path);
    snprintf(spec, sizeof(spec), "unix:%s", path);
    open_front(&front, spec, 3);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    chardev_write(front.chardev, "nobody hears", 12);
    settle(&front);
    for (int round = 0; round < 3; round++) {
        client = connect_to(path);
        settle(&front);
        chardev_write(front.chardev, "hello", 5);
        settle(&front);
        assert_int_equal(read(client, bytes, sizeof(bytes)), 5);
        assert_memory_equal(bytes, "hello", 5);
        assert_int_equal(write(client, "typed", 5), 5);
        run_until(&front, 5 * (size_t)(round + 1));
        assert_memory_equal(front.got + 5 * round, "typed", 5);
        close(client);
        settle(&front);
    }
    assert_int_equal(front.answers, 6); /* 3 + 2 bytes each */
    close_front(&front);
    assert_int_equal(access(path, F_OK), -1);
    remove_temp(path);
}

static void test_socket_path_in_use_is_refused_and_a_stale_one_replaced(void **state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct front front;
    struct error err = {0};
    char path[64], spec[80];
    int stale;

    temp_path(path);
    snprintf(spec, sizeof(spec), "unix:%s", path);
    strcpy(address.sun_path, path);
    stale = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(stale, (struct sockaddr *)&address, sizeof(address)), 0);
    close(stale);
    open_front(&front, spec, 1);
    assert_null(chardev_open(spec, front.loop, &err));
    assert_non_null(strstr(err.text, "in use"));
    assert_int_equal(access(path, F_OK), 0); /* the refusal left the first one's socket alone */
    close_front(&front);
    remove_temp(path);
}

static void test_pipe_input_is_neither_lost_nor_read_ahead_without_bound(void **state)
{
    struct front front;
    struct redirected r;
    int in[2], out[2];
    static u8 data[60000];

    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (u8)(i * 7 + (i >> 8));
    assert_int_equal(pipe(in) | pipe(out), 0);
    redirect(&r, in[0], out[1]);
    open_front(&front, "stdio", 16);
    redirect_back(&r);
    assert_null(chardev_terminal(front.chardev));
    chardev_want(front.chardev, 0);
    assert_int_equal(write(in[1], data, sizeof(data)), sizeof(data));
    close(in[1]); /* with a hang-up, too, what was sent arrives */
    settle(&front);
    assert_int_equal(front.len, 0);
    front.refusals = 2; /* a full gate: offered again */
    chardev_want(front.chardev, 16);
    run_until(&front, sizeof(data));
    assert_memory_equal(front.got, data, sizeof(data));
    settle(&front);
    assert_int_equal(front.len, sizeof(data));
    assert_int_equal(event_loop_run_once(front.loop, 0), 0); /* the end of input keeps nothing busy */
    close_front(&front);
    close(in[0]);
    close(out[0]);
    close(out[1]);
}

static void test_slow_reader_stops_the_front_end_and_loses_nothing(void **state)
{
    struct front front;
    struct redirected r;
    int in[2], out[2];
    size_t written = 0, read_back = 0;
    u8 chunk[8192];

    assert_int_equal(pipe(in) | pipe(out), 0);
    redirect(&r, in[0], out[1]);
    open_front(&front, "stdio", 16);
    redirect_back(&r);
    while (!front.nflow) {
        for (size_t i = 0; i < sizeof(chunk); i++)
            chunk[i] = (u8)((written + i) % 251);
        chardev_write(front.chardev, chunk, sizeof(chunk));
        written += sizeof(chunk);
        settle(&front);
        assert_true(written < 2 * CHARDEV_HIGH_WATER);
    }
    assert_string_equal(front.flow, "s");
    while (read_back < written) {
        ssize_t n = read(out[0], chunk, sizeof(chunk));

        assert_true(n > 0);
        for (ssize_t i = 0; i < n; i++)
            assert_int_equal(chunk[i], (read_back + (size_t)i) % 251);
        read_back += (size_t)n;
        settle(&front);
    }
    assert_string_equal(front.flow, "sg");
    close_front(&front);
    for (int i = 0; i < 2; i++) {
        close(in[i]);
        close(out[i]);
    }
}

static void test_terminal_is_raw_has_escape_keys_and_is_restored(void **state)
{
    static const char typed[] = "a\x03\x01\x01"
                                "b\x01q\x01"
                                "B\x01"
                                "c\rz\x01"
                                "x";
    int master = posix_openpt(O_RDWR | O_NOCTTY), slave;
    struct front front;
    struct redirected r;
    struct termios before = {0}, during, after = {0};
    char help[256] = "";

    assert_true(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
    slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    assert_true(slave >= 0);
    tcgetattr(slave, &before);
    redirect(&r, slave, slave);
    open_front(&front, "stdio", 16);
    redirect_back(&r);
    tcgetattr(slave, &during);
    assert_false(during.c_lflag & (ICANON | ECHO | ISIG));
    assert_non_null(chardev_terminal(front.chardev));
    assert_int_equal(write(master, typed, sizeof(typed) - 1), sizeof(typed) - 1);
    run_until(&front, 6);
    settle(&front);
    assert_int_equal(front.len, 6);
    assert_memory_equal(front.got,
                        "a\x03\x01"
                        "b\rz",
                        6);
    assert_int_equal(front.breaks, 1);
    assert_int_equal(front.quits, 1);
    assert_true(read(master, help, sizeof(help) - 1) > 0);
    assert_non_null(strstr(help, "Ctrl-A X"));
    char_terminal_restore(chardev_terminal(front.chardev));
    tcgetattr(slave, &after);
    assert_memory_equal(&after, &before, sizeof(before));
    assert_false(fcntl(slave, F_GETFL) & O_NONBLOCK);
    close_front(&front);
    close(slave);
    close(master);
}

static void test_file_as_standard_input(void **state)
{
    struct front front;
    struct redirected r;
    char path[64];
    int fd, null = open("/dev/null", O_RDWR);

    temp_path(path);
    fd = open(path, O_RDWR | O_CREAT, 0600);
    assert_int_equal(write(fd, "commands\n", 9), 9);
    lseek(fd, 0, SEEK_SET);
    redirect(&r, fd, null);
    open_front(&front, "stdio", 4);
    redirect_back(&r);
    run_until(&front, 9);
    assert_memory_equal(front.got, "commands\n", 9);
    settle(&front);
    close_front(&front);
    close(fd);
    close(null);
    remove_temp(path);
}

static void *run_loop(void *opaque)
{
    event_loop_run(opaque);
    return NULL;
}

/* The guest's thread writes and asks while the loop's thread works; a third one is at the far end. */
struct far_end {
    int to, from;
    size_t len;
    bool failed;
};

static void *far_end(void *opaque)
{
    struct far_end *far = opaque;
    u8 bytes[1000];
    size_t sent = 0, received = 0;

    while (sent < far->len || received < far->len) {
        ssize_t n;

        for (size_t i = 0; i < sizeof(bytes); i++)
            bytes[i] = (u8)((sent + i) % 253);
        if (sent < far->len)
            sent += (size_t)write(far->to, bytes,
                                  far->len - sent < sizeof(bytes) ? far->len - sent : sizeof(bytes));
        n = read(far->from, bytes, sizeof(bytes));
        if (n <= 0) {
            far->failed = true;
            break;
        }
        for (ssize_t i = 0; i < n; i++)
            far->failed |= bytes[i] != (received + (size_t)i) % 251;
        received += (size_t)n;
    }
    return NULL;
}

static void test_threads_at_every_end(void **state)
{
    static struct front front;
    struct far_end far = {.len = 60000};
    struct redirected r;
    pthread_t loop_thread, far_thread;
    int in[2], out[2];

    assert_int_equal(pipe(in) | pipe(out), 0);
    redirect(&r, in[0], out[1]);
    open_front(&front, "stdio", 100);
    redirect_back(&r);
    far.to = in[1];
    far.from = out[0];
    pthread_create(&loop_thread, NULL, run_loop, front.loop);
    pthread_create(&far_thread, NULL, far_end, &far);
    for (size_t i = 0; i < far.len; i += 10) {
        u8 bytes[10];

        for (size_t j = 0; j < sizeof(bytes); j++)
            bytes[j] = (u8)((i + j) % 251);
        chardev_write(front.chardev, bytes, sizeof(bytes));
    }
    pthread_join(far_thread, NULL);
    event_loop_stop(front.loop);
    pthread_join(loop_thread, NULL);
    assert_false(far.failed);
    run_until(&front, far.len);
    for (size_t i = 0; i < far.len; i++)
        assert_int_equal(front.got[i], i % 253);
    close_front(&front);
    for (int i = 0; i < 2; i++) {
        close(in[i]);
        close(out[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_file_holds_all_that_was_written),
        cmocka_unit_test(test_bad_specs_say_what_to_do),
        cmocka_unit_test(test_socket_carries_both_ways_and_takes_the_next_client),
        cmocka_unit_test(test_socket_path_in_use_is_refused_and_a_stale_one_replaced),
        cmocka_unit_test(test_pipe_input_is_neither_lost_nor_read_ahead_without_bound),
        cmocka_unit_test(test_slow_reader_stops_the_front_end_and_loses_nothing),
        cmocka_unit_test(test_terminal_is_raw_has_escape_keys_and_is_restored),
        cmocka_unit_test(test_file_as_standard_input),
        cmocka_unit_test(test_threads_at_every_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
