package merge

func applyMain() {}
