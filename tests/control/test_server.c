/* Control sockets: names, stale ones, privacy, clients that come and go. The server runs on this thread's loop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "control/runtime_dir.h"
#include "control/server.h"

struct fixture {
    char folder[64];
    struct event_loop *loop;
    plastron_vm *vm;
    struct control_target target;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    plastron_config *config = plastron_config_new();
    struct plastron_error err;

    strcpy(f->folder, "/tmp/test-server-XXXXXX");
    if (!mkdtemp(f->folder) || setenv("XDG_RUNTIME_DIR", f->folder, 1) ||
        plastron_config_set(config, "memory", "1M", &err) ||
        plastron_config_set(config, "serial", "none", &err))
        return -1;
    f->loop = event_loop_new(NULL);
    f->vm = plastron_vm_new(config, &err);
    plastron_config_free(config);
    f->target = (struct control_target){.vm = f->vm, .save = plastron_save};
    *state = f;
    return f->loop && f->vm ? 0 : -1;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    char path[128];

    plastron_vm_free(f->vm);
    event_loop_free(f->loop);
    snprintf(path, sizeof(path), "%s/plastron", f->folder);
    assert_int_equal(rmdir(path), 0); /* nothing is left in it */
    rmdir(f->folder);
    free(f);
    return 0;
}

static struct control_server *serve(struct fixture *f, const char *name)
{
    struct error err;
    struct control_server *server = control_server_new(f->loop, name, &f->target, &err);

    if (!server)
        fail_msg("%s", err.text);
    return server;
}

static void run_loop(struct fixture *f)
{
    while (event_loop_run_once(f->loop, 0))
        ;
}

/* Send, let the server work, and take what has come. */
static void talk(struct fixture *f, int fd, const char *text, char *reply, size_t size)
{
    if (text)
        assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
    run_loop(f);
    ssize_t n = recv(fd, reply, size - 1, MSG_DONTWAIT);
    reply[n > 0 ? n : 0] = 0;
}

static void test_clients(void **state)
{
    struct fixture *f = *state;
    struct control_server *server = serve(f, "one");
    char reply[4096];
    int first = runtime_dir_connect("one", NULL), second = runtime_dir_connect("one", NULL);

    assert_true(first >= 0 && second >= 0);
    talk(f, first, NULL, reply, sizeof(reply));
    assert_non_null(strstr(reply, "\"QMP\""));
    talk(f, first, "{\"execute\":\"qmp_capabilities\"}{\"execute\":\"query-name\"}", reply, sizeof(reply));
    assert_non_null(strstr(reply, "{\"name\":\"vm-"));
    control_server_event(server, "STOP", NULL);
    talk(f, first, NULL, reply, sizeof(reply));
    assert_non_null(strstr(reply, "\"event\":\"STOP\""));
    /* The second has not negotiated: a greeting, no event. */
    talk(f, second, NULL, reply, sizeof(reply));
    assert_non_null(strstr(reply, "\"QMP\""));
    assert_null(strstr(reply, "STOP"));
    close(first);
    run_loop(f);
    talk(f, second, "{\"execute\":\"qmp_capabilities\"}", reply, sizeof(reply));
    assert_non_null(strstr(reply, "return"));
    control_server_free(server);
    assert_int_equal(recv(second, reply, sizeof(reply), MSG_DONTWAIT), 0); /* the connection was ended */
    close(second);
}

static void test_flood_is_cut(void **state)
{
    struct fixture *f = *state;
    struct control_server *server = serve(f, "one");
    char junk[4096], reply[4096];
    int fd = runtime_dir_connect("one", NULL);
    ssize_t n = 1;

    memset(junk, '{', sizeof(junk));
    for (int i = 0; i < 32 && n > 0; i++) {
        n = send(fd, junk, sizeof(junk), MSG_NOSIGNAL | MSG_DONTWAIT);
        run_loop(f);
    }
    while ((n = recv(fd, reply, sizeof(reply) - 1, MSG_DONTWAIT)) > 0)
        reply[n] = 0;
    assert_non_null(strstr(reply, "longer than"));
    assert_true(n <= 0 && runtime_dir_connect("one", NULL) >= 0);
    close(fd);
    control_server_free(server);
}

static void test_names(void **state)
{
    struct fixture *f = *state;
    struct control_server *one = serve(f, "one"), *two = serve(f, "two");
    struct error err;
    char **names;

    assert_null(control_server_new(f->loop, "one", &f->target, &err));
    assert_non_null(strstr(err.text, "one runs already"));
    assert_int_equal(runtime_dir_list(&names, &err), 2);
    assert_string_equal(names[0], "one");
    assert_string_equal(names[1], "two");
    free(names[0]);
    free(names[1]);
    free(names);
    assert_int_equal(runtime_dir_connect("tow", &err), -1);
    assert_string_equal(err.text, "no machine named tow runs; is two meant?");
    assert_int_equal(runtime_dir_connect("../one", &err), -1);
    control_server_free(one);
    one = serve(f, "one"); /* the name is free again */
    control_server_free(one);
    control_server_free(two);
}

static void test_stale_socket_is_replaced(void **state)
{
    struct fixture *f = *state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct error err;
    char **names;
    struct stat st;

    /* What a process leaves that was killed: a bound socket that nobody listens on. */
    control_server_free(serve(f, "one"));
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/plastron/one.sock", f->folder);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    close(fd);
    assert_int_equal(runtime_dir_connect("one", &err), -1);
    control_server_free(serve(f, "one"));
    /* A list cleans it away, too. */
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    close(fd);
    assert_int_equal(runtime_dir_list(&names, &err), 0);
    free(names);
    assert_int_equal(stat(address.sun_path, &st), -1);
}

static void test_privacy(void **state)
{
    struct fixture *f = *state;
    struct control_server *server = serve(f, "one");
    char folder[128], path[160];
    struct error err;
    struct stat st;

    snprintf(folder, sizeof(folder), "%s/plastron", f->folder);
    snprintf(path, sizeof(path), "%s/one.sock", folder);
    assert_int_equal(stat(folder, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    control_server_free(server);
    /* A folder that others can write to is refused. */
    assert_int_equal(chmod(folder, 0777), 0);
    assert_null(control_server_new(f->loop, "one", &f->target, &err));
    assert_non_null(strstr(err.text, folder));
    assert_int_equal(chmod(folder, 0700), 0);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_clients), TEST(test_flood_is_cut), TEST(test_names), TEST(test_stale_socket_is_replaced),
        TEST(test_privacy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
