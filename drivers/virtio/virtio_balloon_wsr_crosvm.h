/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtio balloon: working set reports in the format of crosvm. The part of the
 * driver behind VIRTIO_BALLOON_F_CROSVM_WORKING_SET; see
 * virtio_balloon_wsr_crosvm.c.
 */
#ifndef _VIRTIO_BALLOON_WSR_CROSVM_H
#define _VIRTIO_BALLOON_WSR_CROSVM_H

#include <linux/types.h>

struct virtio_balloon_wsr_crosvm_state;
struct virtio_device;
struct virtqueue;

/* Not part of the virtio specification, so it is not in the UAPI header. */
#define VIRTIO_BALLOON_F_CROSVM_WORKING_SET	8

/**
 * struct virtio_balloon_wsr_crosvm - what the balloon device keeps for this
 * @state: NULL without VIRTIO_BALLOON_F_CROSVM_WORKING_SET
 *
 * Needs no room without CONFIG_VIRTIO_BALLOON_WSR_CROSVM.
 */
struct virtio_balloon_wsr_crosvm {
#ifdef CONFIG_VIRTIO_BALLOON_WSR_CROSVM
	struct virtio_balloon_wsr_crosvm_state *state;
#endif
};

#ifdef CONFIG_VIRTIO_BALLOON_WSR_CROSVM

void virtio_balloon_wsr_crosvm_validate(struct virtio_device *vdev);
int virtio_balloon_wsr_crosvm_init(struct virtio_balloon_wsr_crosvm *wsr,
				   struct virtio_device *vdev);
void virtio_balloon_wsr_crosvm_set_vqs(struct virtio_balloon_wsr_crosvm *wsr,
				       struct virtqueue *data_vq,
				       struct virtqueue *op_vq);
void virtio_balloon_wsr_crosvm_wake(struct virtio_balloon_wsr_crosvm *wsr);
void virtio_balloon_wsr_crosvm_stop(struct virtio_balloon_wsr_crosvm *wsr);
void virtio_balloon_wsr_crosvm_quiesce(struct virtio_balloon_wsr_crosvm *wsr);
void virtio_balloon_wsr_crosvm_detach(struct virtio_balloon_wsr_crosvm *wsr);
void virtio_balloon_wsr_crosvm_free(struct virtio_balloon_wsr_crosvm *wsr);

#else /* !CONFIG_VIRTIO_BALLOON_WSR_CROSVM */

static inline void virtio_balloon_wsr_crosvm_validate(struct virtio_device *vdev)
{
}

static inline int
virtio_balloon_wsr_crosvm_init(struct virtio_balloon_wsr_crosvm *wsr,
			       struct virtio_device *vdev)
{
	return 0;
}

static inline void
virtio_balloon_wsr_crosvm_wake(struct virtio_balloon_wsr_crosvm *wsr)
{
}

static inline void
virtio_balloon_wsr_crosvm_stop(struct virtio_balloon_wsr_crosvm *wsr)
{
}

static inline void
virtio_balloon_wsr_crosvm_quiesce(struct virtio_balloon_wsr_crosvm *wsr)
{
}

static inline void
virtio_balloon_wsr_crosvm_detach(struct virtio_balloon_wsr_crosvm *wsr)
{
}

static inline void
virtio_balloon_wsr_crosvm_free(struct virtio_balloon_wsr_crosvm *wsr)
{
}

#endif /* CONFIG_VIRTIO_BALLOON_WSR_CROSVM */

#endif /* _VIRTIO_BALLOON_WSR_CROSVM_H */
