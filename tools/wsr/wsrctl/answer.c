// SPDX-License-Identifier: GPL-2.0
/*
 * Fields of wsrd's answers.
 */
#include <stdio.h>

#include <json-c/json.h>

#include "answer.h"

uint64_t get_bytes(struct json_object *object, const char *name)
{
	struct json_object *field;

	return json_object_object_get_ex(object, name, &field) ?
	       json_object_get_uint64(field) : 0;
}

double get_number(struct json_object *object, const char *name)
{
	struct json_object *field;

	return json_object_object_get_ex(object, name, &field) ?
	       json_object_get_double(field) : -1;
}

const char *get_text(struct json_object *object, const char *name)
{
	struct json_object *field;

	return json_object_object_get_ex(object, name, &field) ?
	       json_object_get_string(field) : "";
}

struct json_object *get(struct json_object *object, const char *name)
{
	struct json_object *field = NULL;

	json_object_object_get_ex(object, name, &field);
	return field;
}

const char *age_text(char out[TEXT_SHORT], double seconds)
{
	if (seconds < 0)
		return "-";
	return text_ago(out, seconds * 1000);
}

void print_json(struct json_object *answer)
{
	puts(json_object_to_json_string_ext(answer, JSON_C_TO_STRING_PRETTY |
					    JSON_C_TO_STRING_NOSLASHESCAPE));
}
