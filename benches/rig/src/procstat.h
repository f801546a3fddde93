// CPU time and context switches of other processes, read from /proc.
#pragma once
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

struct usage {
    uint64_t user_ticks, system_ticks; // of 1/sysconf(_SC_CLK_TCK) s; dead threads included
    uint64_t cpu_ns;                   // the scheduler's own count; living threads only
    uint64_t voluntary_switches;
};

static inline void add_process_ticks(pid_t pid, struct usage *usage) {
    char path[64], line[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    if (!file)
        return;
    line[fread(line, 1, sizeof line - 1, file)] = 0;
    fclose(file);
    // The second field is the command in brackets, which may itself hold spaces and brackets.
    char *after_name = strrchr(line, ')');
    unsigned long long user, system;
    if (after_name &&
        sscanf(after_name + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &system) == 2) {
        usage->user_ticks += user;
        usage->system_ticks += system;
    }
}

static inline void add_thread(pid_t pid, const char *thread, struct usage *usage) {
    char path[320], line[256];
    unsigned long long value;
    snprintf(path, sizeof path, "/proc/%d/task/%s/schedstat", pid, thread);
    FILE *file = fopen(path, "r");
    if (file) {
        if (fscanf(file, "%llu", &value) == 1)
            usage->cpu_ns += value;
        fclose(file);
    }
    snprintf(path, sizeof path, "/proc/%d/task/%s/status", pid, thread);
    file = fopen(path, "r");
    if (file) {
        while (fgets(line, sizeof line, file))
            if (sscanf(line, "voluntary_ctxt_switches: %llu", &value) == 1)
                usage->voluntary_switches += value;
        fclose(file);
    }
}

// The sum over all processes and their threads. io_uring's kernel workers are threads of their process.
static inline struct usage usage_of(const pid_t *pids, int count) {
    struct usage usage = {0};
    for (int i = 0; i < count; i++) {
        char path[64];
        add_process_ticks(pids[i], &usage);
        snprintf(path, sizeof path, "/proc/%d/task", pids[i]);
        DIR *tasks = opendir(path);
        if (!tasks)
            continue;
        for (struct dirent *entry; (entry = readdir(tasks));)
            if (entry->d_name[0] != '.')
                add_thread(pids[i], entry->d_name, &usage);
        closedir(tasks);
    }
    return usage;
}
