package gateway

// JudgeOutliers does at once what happens at the end of each window.
func (g *Gateway) JudgeOutliers() { g.outliers(g.state.Load()) }
