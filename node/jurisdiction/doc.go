// Package jurisdiction names the areas that nodes stand for (辖区): cities, districts and streets by their GB/T 2260 code,
// and how they lie in one another.
//
// The tree is data and so is its depth: streets may lie straight under a city that has no districts (中山市), and a
// development zone is a division of its own. A parent is what the file says, never what a code's digits suggest, because a
// street can move to another district and keep or change its code. A Tree is what divisions were at one time; dated facts
// about a journal's code, name and parent are not kept here.
//
// # File
//
// UTF-8 CSV with the heading code,name,tier,parent; lines that begin with # are comments.
//
//	code,name,tier,parent
//	120000,天津市,city,
//	120116,滨海新区,district,120000
//	120116013,新村街道,street,120116
package jurisdiction
