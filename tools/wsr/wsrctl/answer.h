/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Fields of wsrd's answers.
 */
#ifndef WSRCTL_ANSWER_H
#define WSRCTL_ANSWER_H

#include <stdint.h>

#include "../text.h"

struct json_object;

/** get_bytes - a number without a sign, 0 if there is none */
uint64_t get_bytes(struct json_object *object, const char *name);

/** get_number - -1 if there is none */
double get_number(struct json_object *object, const char *name);

/** get_text - empty if there is none */
const char *get_text(struct json_object *object, const char *name);

/** get - a field or NULL */
struct json_object *get(struct json_object *object, const char *name);

/** age_text - "5 min 12 s", or a dash for an age that nothing reaches */
const char *age_text(char out[TEXT_SHORT], double seconds);

/** answer_host - the host's part of a status: a few lines */
void answer_host(struct text *text, struct json_object *host);

#define ANSWER_WHY	64

/** answer_why - why a VM has its target and does not move: "at-min, held: rate" */
const char *answer_why(char out[ANSWER_WHY], struct json_object *vm);

/** print_json - for programs */
void print_json(struct json_object *answer);

#endif
