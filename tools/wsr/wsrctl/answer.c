// SPDX-License-Identifier: GPL-2.0
/*
 * Fields of wsrd's answers.
 */
#include <stdio.h>
#include <string.h>

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

	/* null is no text either. */
	return json_object_object_get_ex(object, name, &field) && field ?
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

void answer_host(struct text *text, struct json_object *host)
{
	char total[TEXT_SHORT], other[TEXT_SHORT], buffer[TEXT_SHORT];
	char capacity[TEXT_SHORT], more[TEXT_SHORT], age[TEXT_SHORT];
	char swap[TEXT_SHORT];
	double cut_s = get_number(host, "cut-age-s");

	text_printf(text, "host %s: others %s, buffer %s, for VMs %s",
		    text_bytes(total, get_bytes(host, "total-bytes")),
		    text_bytes(other, get_bytes(host, "other-bytes")),
		    text_bytes(buffer, get_bytes(host, "buffer-bytes")),
		    text_bytes(capacity, get_bytes(host, "capacity-bytes")));
	if (get_bytes(host, "swap-bytes"))
		text_printf(text, "; %s may be swapped out",
			    text_bytes(swap, get_bytes(host, "swap-bytes")));
	text_newline(text);
	if (get_bytes(host, "deficit-bytes")) {
		text_style(text, TEXT_BAD);
		text_printf(text, "%s are missing for the SLOs: migrate a VM, or give it less",
			    text_bytes(more, get_bytes(host, "deficit-bytes")));
	} else {
		text_printf(text, "%s more would fit with all SLOs held; %s%s",
			    text_bytes(more,
				       get_bytes(host, "reclaimable-bytes")),
			    cut_s < 0 ? "all that is used fits" :
			    "common cut at ",
			    cut_s < 0 ? "" : age_text(age, cut_s));
	}
	text_style(text, TEXT_NORMAL);
	text_newline(text);
	if (json_object_get_boolean(get(host, "dry-run"))) {
		text_add(text, "dry run: nothing of this is done");
		text_newline(text);
	}
}

const char *answer_why(char out[ANSWER_WHY], struct json_object *vm)
{
	const char *hold = get_text(vm, "hold");
	bool held = *hold && strcmp(hold, "none") && strcmp(hold, "settled");

	snprintf(out, ANSWER_WHY, "%s%s%s", get_text(vm, "reason"),
		 held ? ", held: " : "", held ? hold : "");
	return out;
}

void print_json(struct json_object *answer)
{
	puts(json_object_to_json_string_ext(answer, JSON_C_TO_STRING_PRETTY |
					    JSON_C_TO_STRING_NOSLASHESCAPE));
}
