"""A machine made of rules: LVM and its friends as they answer, without a disk to lose."""
