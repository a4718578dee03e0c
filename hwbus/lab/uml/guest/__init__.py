"""What runs inside a node; nothing here may import anything of ours."""
