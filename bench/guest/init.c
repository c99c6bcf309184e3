/*
 * Runs the entries of `make bench`. In a guest it is /sbin/init: it mounts what they need and powers off at the end. Started
 * by hand in a chroot it only runs them. Between these lines on standard output lies an entry's time, by the clock of
 * whoever reads them:
 *
 *   BENCH NAME begin
 *   BENCH NAME end
 *   BENCH NAME sum CHECKSUM        of what the command printed; or: BENCH NAME failed STATUS
 *   BENCH NAME used SECONDS        of CPU time; only by hand, as a guest's clock is not the host's
 *
 * Before the first: BENCH init begin, and BENCH cpu with the CPU's features. After the last: BENCH done.
 * On the kernel's command line, or its own: bench.only=NAME,NAME... for some entries (an unknown name is none of them), and
 * bench.copies=N for N copies of each command side by side.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

enum { COPIES_MAX = 8, LINE_MAX_SIZE = 4096 };

/* Send out what was printed: the line has left the guest before the work begins. */
static void drain(void)
{
    fflush(stdout);
    tcdrain(STDOUT_FILENO);
}

/* Take bench.only= and bench.copies= out of a line of words. */
static void take_options(const char *line, char only[LINE_MAX_SIZE], int *copies)
{
    const char *found = strstr(line, "bench.only=");
    if (found)
        sscanf(found, "bench.only=%4095s", only);
    found = strstr(line, "bench.copies=");
    if (found && (sscanf(found, "bench.copies=%d", copies) != 1 || *copies < 1 || *copies > COPIES_MAX))
        *copies = 1;
}

/* Whether a list "a,b,c" names this one; the empty list names all. */
static int wanted(const char *list, const char *name)
{
    char with_commas[LINE_MAX_SIZE + 2], of_name[80];

    if (!*list)
        return 1;
    snprintf(with_commas, sizeof(with_commas), ",%s,", list);
    snprintf(of_name, sizeof(of_name), ",%s,", name);
    return strstr(with_commas, of_name) != NULL;
}

/* FNV-1a of a file; 0 if it can't be read. */
static uint64_t checksum(const char *path)
{
    static uint8_t buffer[1 << 16];
    uint64_t sum = 0xcbf29ce484222325ull;
    ssize_t count;
    int file = open(path, O_RDONLY);

    if (file < 0)
        return 0;
    while ((count = read(file, buffer, sizeof(buffer))) > 0)
        for (ssize_t i = 0; i < count; i++)
            sum = (sum ^ buffer[i]) * 0x100000001b3ull;
    close(file);
    return sum;
}

static pid_t start(const char *folder, const char *command)
{
    pid_t child = fork();
    if (child)
        return child;
    if (mkdir(folder, 0700) || chdir(folder))
        _exit(126);
    int output = open("output", O_WRONLY | O_CREAT | O_TRUNC, 0600), input = open("/dev/null", O_RDONLY);
    dup2(output, STDOUT_FILENO);
    if (input >= 0)
        dup2(input, STDIN_FILENO);
    execl("/bin/sh", "sh", "-c", command, (char *)NULL);
    _exit(127);
}

/* The CPU seconds of the commands that have ended. */
static double seconds_used(void)
{
    struct rusage usage;
    getrusage(RUSAGE_CHILDREN, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void run(const char *name, const char *command, int copies, int is_init)
{
    char folder[COPIES_MAX][80], command_or_path[100];
    pid_t children[COPIES_MAX];
    int status = 0;
    double used = seconds_used();

    printf("BENCH %s begin\n", name);
    drain();
    for (int i = 0; i < copies; i++) {
        snprintf(folder[i], sizeof(folder[i]), "/tmp/bench.%d.%s.%d", (int)getpid(), name, i);
        children[i] = start(folder[i], command);
    }
    for (int i = 0; i < copies; i++) {
        int of_child = -1;
        if (children[i] < 0 || waitpid(children[i], &of_child, 0) < 0)
            of_child = -1;
        if (of_child)
            status = of_child;
    }
    printf("BENCH %s end\n", name);
    if (!is_init)
        printf("BENCH %s used %.6f\n", name, seconds_used() - used);
    if (status)
        printf("BENCH %s failed %d\n", name, status);
    for (int i = 0; i < copies; i++) {
        snprintf(command_or_path, sizeof(command_or_path), "%.79s/output", folder[i]);
        if (!status)
            printf("BENCH %s sum %016llx\n", name, (unsigned long long)checksum(command_or_path));
        snprintf(command_or_path, sizeof(command_or_path), "rm -rf %.79s", folder[i]);
        if (system(command_or_path))
            printf("BENCH %s failed rm\n", name);
    }
    drain();
}

static void print_features(void)
{
    static char line[1 << 14];
    FILE *cpuinfo = fopen("/proc/cpuinfo", "r");

    while (cpuinfo && fgets(line, sizeof(line), cpuinfo))
        if (strncmp(line, "flags", 5) == 0) {
            printf("BENCH cpu features %s", strchr(line, ':') + 1);
            break;
        }
    if (cpuinfo)
        fclose(cpuinfo);
}

int main(int count, char **words)
{
    static char only[LINE_MAX_SIZE], line[LINE_MAX_SIZE];
    int copies = 1, is_init = getpid() == 1;

    printf("BENCH init begin\n");
    drain();
    if (is_init) {
        mount("proc", "/proc", "proc", 0, NULL);
        mount("tmpfs", "/tmp", "tmpfs", 0, NULL);
        FILE *file = fopen("/proc/cmdline", "r");
        if (file) {
            take_options(fgets(line, sizeof(line), file) ? line : "", only, &copies);
            fclose(file);
        }
    }
    for (int i = 1; i < count; i++)
        take_options(words[i], only, &copies);
    setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1);
    setenv("HOME", "/tmp", 1);
    setenv("LC_ALL", "C.UTF-8", 1);
    print_features();

    FILE *entries = fopen("/bench/entries", "r");
    if (!entries)
        printf("BENCH entries failed %s\n", strerror(errno));
    while (entries && fgets(line, sizeof(line), entries)) {
        char name[40], class[40];
        int command = 0;
        line[strcspn(line, "\n")] = 0;
        if (line[0] != '#' && sscanf(line, "%39s %39s %n", name, class, &command) == 2 && wanted(only, name))
            run(name, line + command, copies, is_init);
    }
    printf("BENCH done\n");
    drain();
    if (is_init) {
        sync();
        reboot(RB_POWER_OFF);
    }
    return 0;
}
