/*
 * Hardware task switches (SDM 3A chapter "Task Management"). There are none in IA-32e mode.
 */
#ifndef ENGINE_INTERP_TASK_H
#define ENGINE_INTERP_TASK_H

#include "engine/interp/interp.h"

/* What starts a switch. CALL and events nest: the old task stays busy and the new one is linked to it. */
enum task_source { TASK_JUMP, TASK_CALL, TASK_RETURN, TASK_EVENT };

/* JMP and CALL far to the system descriptor `descriptor` of `selector`: switches the task if it is a task gate or an available
   TSS and the mode has task switches; otherwise returns false with nothing done. The caller ends with END_LOOP. */
bool interp_task_transfer(struct interp *c, const struct cell *i, u16 selector, u64 descriptor,
                          enum task_source source);
/* IRET with NT set. */
void interp_task_return(struct interp *c, const struct cell *i);
/* An event whose IDT gate is a task gate for `selector`. `rip` and `flags` are what the interrupted task goes on with;
   `ext`: of the error codes of faults on the way; `error`: what is pushed for the new task, or NULL. */
void interp_task_event(struct interp *c, const struct cell *i, u16 selector, u64 rip, u64 flags, u32 ext,
                       const u32 *error);

#endif
